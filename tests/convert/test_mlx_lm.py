"""What is exported for mlx-lm gives the same logits and the same greedy text there."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from model_outputs import greedy

from mlx_transformers.assembly.published import read_published
from mlx_transformers.convert.mlx_lm import MLX_LM
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.verbs.export_run import export_run
from mlx_transformers.verbs.import_run import import_run

from .published import CONFIGS, MORE, write

utils = pytest.importorskip("mlx_lm.utils")
TOKENS = np.random.default_rng(0).integers(0, 256, (2, 24))
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
UNEVEN = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
WINDOWED = {"use_sliding_window": True, "sliding_window": 6, "layer_types": UNEVEN}
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
}


@pytest.mark.parametrize("name", CONFIGS | MORE)
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


@pytest.mark.parametrize("name", SCALINGS)
def test_a_scaling_is_written_where_mlx_lm_looks_for_it(name: str, tmp_path: Path) -> None:
    rope = SCALINGS[name] | {"rope_theta": 5000.0}
    source = write(tmp_path / "model", "llama", rope_parameters=rope)
    run = import_run(source, root=tmp_path / "runs")
    theirs, _ = utils.load_model(export_run(run.path, "mlx-lm", tmp_path / "out"))
    tokens = mx.array(TOKENS)
    assert np.abs(np.array(theirs(tokens) - read_published(source).model(tokens))).max() < 2e-5


def test_every_family_that_is_listed_is_compared() -> None:
    assert set(MLX_LM) == set(CONFIGS | MORE)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("mistral", {}, "no sliding window .* from token 7 on"),
        ("gpt2", {"n_inner": 40}, "four times the width"),
        ("gpt2", {"activation_function": "gelu"}, "tanh form"),
        ("gpt2", {"tie_word_embeddings": False}, "ties the head"),
        ("mixtral", {"head_dim": 12}, "heads of dim / n_heads only"),
        ("llama", {"hidden_act": "gelu"}, "silu only"),
        ("llama", {"rope_parameters": YARN}, "no scaling 'yarn'"),
        ("gemma2", {"attn_logit_softcapping": 20.0}, "bounded by 50"),
        ("gemma3_text", {"layer_types": UNEVEN}, "at even distances"),
        ("gemma3_text", {"hidden_size": 32}, "in bfloat16"),
        ("qwen2", WINDOWED, "no sliding window"),
        ("deepseek_v3", {"rope_interleave": False}, "neighbours"),
        ("stablelm", {"tie_word_embeddings": True}, "its head is not the embedding"),
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
