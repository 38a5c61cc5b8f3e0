"""The page on adding a layer, followed literally in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import ROOT, Block, blocks

PAGE = ROOT / "docs" / "adding-a-layer.md"
TEXT = "the king went to see what light had come from yonder window and the queen did not " * 40

VERB = "from mlx_transformers.cli.main import main; main()"

TINY = [
    "data.path=text.txt",
    'data.tokenizer={kind="char"}',
    "model.dim=32",
    "model.n_layers=2",
    "model.block.ffn.hidden_dim=48",
    "train.steps=30",
    "train.batch_size=4",
    "train.seq_len=32",
    "optim.learning_rate=1e-2",
    "optim.schedule.warmup=5",
    "eval.every=30",
    "log.sample_every=1000",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the steps of the page were followed."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("mlx_transformers", "recipes", "tests/contract"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for block in blocks(PAGE):
        if block.path is not None:
            follow(block, folder / block.path)
    return folder


def follow(block: Block, file: Path) -> None:
    """Write the file that a block of the page holds, or make the change that it shows."""
    if block.mark == "file":
        assert not file.exists()
        file.write_text(block.text)
        return
    lines = block.text.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] != "+")
    after = "".join(line[1:] for line in lines if line[0] != "-")
    text = file.read_text()
    assert text.count(before) == 1, f"{block.path} has not, or not once:\n{before}"
    file.write_text(text.replace(before, after))


def run(project: Path, *command: str) -> str:
    """Run a command in the copy and return its output, without compilation by default."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "MLX_DISABLE_COMPILE": "1",
        "MLXT_CACHE": os.environ.get("MLXT_CACHE", str(project / "cache")),
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


KIND = "((moving_average or ema) and not compiled)"
"""The rows of the new kind; compilation is off in the copy."""
REGISTRY = "has_a_row or names_only"
"""Tests that no kind lacks a row, and no row a kind."""


def test_the_new_kind_passes_the_contract_and_no_kind_lacks_a_row(project: Path) -> None:
    files = [f"tests/contract/test_{name}.py" for name in ("contract", "registry", "costs")]
    said = run(project, "-m", "pytest", "-q", *files, "-k", f"{KIND} or {REGISTRY}")
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) >= 20


def test_the_memory_plan_counts_the_new_kind(project: Path) -> None:
    code = (
        "from mlx_transformers.core.footprint import ActivationShape\n"
        "from mlx_transformers.layers.mixers.ema import Ema\n"
        "print(Ema(n_heads=4).saved_bytes(32, ActivationShape(4, 32)))"
    )
    assert float(run(project, "-c", code)) == 3 * 32 * 4 + 4 * 32 * 4 / 4


def test_the_new_recipe_learns(project: Path) -> None:
    (project / "text.txt").write_text(TEXT)
    sets = [word for one in TINY for word in ("--set", one)]
    run(project, "-c", VERB, "train", "recipes/ema_tiny.toml", *sets)
    log = (project / "runs" / "ema_tiny" / "log.jsonl").read_text().splitlines()
    losses = [r["train_loss"] for r in map(json.loads, log) if "train_loss" in r]
    assert losses[-1] < 0.8 * losses[0]


def test_the_reference_would_have_it(project: Path) -> None:
    code = (
        "from mlx_transformers.assembly.recipe import Recipe\n"
        "from mlx_transformers.recipe.schema import reference\n"
        "print(reference(Recipe))"
    )
    said = run(project, "-c", code)
    assert "### `ema`" in said
    assert "Heads H, each with its own rate." in said
