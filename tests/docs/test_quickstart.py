"""The Python of the pages, run in order on a small text."""

import os
import re
import subprocess
import sys
from pathlib import Path

import forked
import pytest

from .pages import ROOT, blocks

TEXT = "ROMEO: But soft, what light through yonder window breaks?\nJULIET: Ay me!\n" * 40
SMALL = """
extends = "{parent}"

[model]
dim = 16
n_layers = 1

[model.block.ffn]
hidden_dim = 24

[data]
path = "text.txt"
tokenizer = {{ kind = "char" }}

[train]
batch_size = 2
seq_len = 16
"""


def small(folder: Path) -> dict[str, str]:
    """Write a small recipe of the name that the pages use; returns the environment."""
    (folder / "text.txt").write_text(TEXT)
    (folder / "recipes").mkdir()
    parent = ROOT / "recipes" / "mistral_tiny.toml"
    (folder / "recipes" / "mistral_tiny.toml").write_text(SMALL.format(parent=parent))
    return os.environ | {"MLXT_CACHE": str(folder / "cache")}


@pytest.mark.parametrize(
    ("page", "of_the_page"), [("quickstart", slice(None)), ("python", slice(-1))], ids=str
)
def test_the_snippets_run_one_after_the_other(
    tmp_path: Path, page: str, of_the_page: slice
) -> None:
    """As written, but for the size of the model, the steps and the number of tokens."""
    snippets = [block.text for block in blocks(ROOT / "docs" / f"{page}.md", "python")]
    code = "\n".join(snippets[of_the_page]).replace("steps=200", "steps=6")
    code = code.replace("max_tokens=200", "max_tokens=20")
    done = forked.run(["-c", code], cwd=tmp_path, env=small(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    for name in re.findall(r'train\(.*name="(.*?)"', code):
        assert (tmp_path / "runs" / name / "log.jsonl").exists()
    assert ("tokens/s" in done.stdout) == ("stats.line()" in code)


def test_a_kind_of_ones_own_fills_a_slot_before_the_first_recipe(tmp_path: Path) -> None:
    """In a fresh process, since those of the server have read recipes."""
    code = blocks(ROOT / "docs" / "python.md", "python")[-1].text
    command = [sys.executable, "-c", code]
    env = small(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "MaxoutFfn" in done.stdout
