"""The Python of the quickstart, run in order on a small text."""

import os
from pathlib import Path

import forked

from .pages import ROOT, blocks

QUICKSTART = ROOT / "docs" / "quickstart.md"
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


def test_the_snippets_run_one_after_the_other(tmp_path: Path) -> None:
    """As written, but for the size of the model, the steps and the number of tokens."""
    snippets = [block.text for block in blocks(QUICKSTART, "python")]
    assert len(snippets) == 3
    code = "\n".join(snippets).replace("train.steps=200", "train.steps=2")
    code = code.replace("max_tokens=200", "max_tokens=20")
    assert "from mlx_transformers import generate, load, load_recipe, train" in code
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "recipes").mkdir()
    parent = ROOT / "recipes" / "mistral_tiny.toml"
    (tmp_path / "recipes" / "mistral_tiny.toml").write_text(SMALL.format(parent=parent))
    env = os.environ | {"MLXT_CACHE": str(tmp_path / "cache")}
    done = forked.run(["-c", code], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "runs" / "from-python" / "log.jsonl").exists()
    assert "tokens/s" in done.stdout
