"""What is exported for mlx-lm gives the same logits and the same greedy text there."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.convert.outputs import greedy
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.exporting import export_run
from mlx_transformers.importing import import_run, read_published

from .published import CONFIGS, write

utils = pytest.importorskip("mlx_lm.utils")
TOKENS = np.random.default_rng(0).integers(0, 256, (2, 24))


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_greedy_text_are_those_of_mlx_lm(name: str, tmp_path: Path) -> None:
    changes = {"mistral": {"sliding_window": 64}}.get(name, {})
    run = import_run(write(tmp_path / "model", name, **changes), root=tmp_path / "runs")
    out = export_run(run.path, "mlx-lm", tmp_path / "out")
    theirs, _ = utils.load_model(out)
    ours = read_published(tmp_path / "model").model
    tokens = mx.array(TOKENS)
    assert np.abs(np.array(theirs(tokens)) - np.array(ours(tokens))).max() < 2e-5
    chosen = greedy(ours, TOKENS[:1, :5], 8)["gen_tokens"]
    rows = mx.array(TOKENS[:1, :5])
    for _ in range(8):
        rows = mx.concatenate([rows, mx.argmax(theirs(rows)[:, -1:], axis=-1)], axis=1)
    assert rows[:, 5:].tolist() == chosen.tolist()


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("mistral", {}, "no sliding window .* from token 7 on"),
        ("gpt2", {"n_inner": 40}, "four times the width"),
        ("gpt2", {"activation_function": "gelu"}, "tanh form"),
        ("gpt2", {"tie_word_embeddings": False}, "ties the head"),
        ("mixtral", {"head_dim": 12}, "heads of dim / n_heads only"),
    ],
)
def test_what_mlx_lm_passes_over_is_refused(name, changes, said, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = import_run(write(tmp_path / "model", name, **changes), root=tmp_path / "runs")
    with pytest.raises(ConvertError, match=said):
        export_run(run.path, "mlx-lm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shorter_context_makes_a_window_sayable(tmp_path: Path) -> None:
    run = import_run(write(tmp_path / "model", "mistral"), root=tmp_path / "runs")
    out = export_run(run.path, "mlx-lm", tmp_path / "out", context=6)
    theirs, _ = utils.load_model(out)
    ours = read_published(tmp_path / "model").model
    tokens = mx.array(TOKENS[:, :6])
    assert np.abs(np.array(theirs(tokens)) - np.array(ours(tokens))).max() < 2e-5
