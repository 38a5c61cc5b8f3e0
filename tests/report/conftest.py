"""Runs on disk as training leaves them, without training; and a tiny recipe to measure."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.conftest import RECIPE as TINY

from mlx_transformers.core.cache import cache_folder

RECIPE = """
[model]
dim = {dim}  # from base.toml

[train]
steps = 40  # from --set
batch_size = 2  # from base.toml
"""

PLAN = {
    "peak_bytes": 450 * 2**20, "measured_bytes": 500 * 2**20, "budget_bytes": 2**30,
    "parts_bytes": {"weights": 50 * 2**20, "activations of embedding and head": 400 * 2**20},
    "phases_bytes": {"loss": 450 * 2**20, "update": 150 * 2**20}, "correction": 1.0,
    "cache_limit_bytes": 675 * 2**20, "wired_limit_bytes": None, "batch_size": 2, "accumulate": 4,
    "chunk": 512, "recompute": [0, 2],
}  # fmt: skip

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(name, dim=..., records=...)` writes a run into the test's folder `runs`."""

    def make(name: str, dim: int = 16, records: list[dict] | None = None) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text(RECIPE.format(dim=dim))
        facts = {"mlx": "0.32.4", "cores": 2, "command": f"mlxt train tiny --name {name}"}
        (folder / "environment.json").write_text(json.dumps(facts))
        (folder / "plan.json").write_text(json.dumps(PLAN))
        lines = [json.dumps(record) for record in (log() if records is None else records)]
        (folder / "log.jsonl").write_text("".join(line + "\n" for line in lines))
        return folder

    return make


def log() -> list[dict]:
    """Four reports, two evaluations, a sample that is not HTML, and a loss that was not finite."""
    records: list[dict] = []
    for step in (10, 20, 30, 40):
        report = {
            "step": step, "tokens": step * 100, "learning_rate": 1e-3 / step, "grad_norm": 1.5,
            "tokens_per_s": 1000.0 + step, "active_gib": 0.1, "cache_gib": 0.2, "peak_gib": 0.5,
            "process_gib": 0.9, "mfu": 0.25, "train_loss": None if step == 20 else 5 - step / 10,
            "seconds_total": step * 0.1,
        }  # fmt: skip
        records.append(report)
    for step, loss in ((20, 2.5), (40, 2.75)):
        values = {"val_loss": loss, "val_ppl": 9.0, "val_bpb": loss / 2, "val_tokens": 100.0}
        records.append({"step": step, "tokens": step * 100, **values})
    records.append({"step": 40, "tokens": 4000, "sample": "<b>ROMEO:</b>\x00 & so & on"})
    return sorted(records, key=lambda record: record["step"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipe `tiny`, its text, and a cache of its own; processes start there."""
    kernels = cache_folder() / "jit"
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    if kernels.is_dir():  # compiled once, and not by every process of every test
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "jit").symlink_to(kernels)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the king of love and sorrow went to see what came " * 40)
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path
