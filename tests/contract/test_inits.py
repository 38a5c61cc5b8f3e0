"""Initial weights: the spread of every matrix, bounds, depth, and the seed."""

import math

import mlx.core as mx
import numpy as np
import pytest

from .inits import ROWS
from .models import LLAMA
from .suite import Row, parse, weights_of

DIM, HIDDEN, LAYERS, VOCAB, EXPERTS = 64, 96, 3, 200, 4

GLU = {"kind": "glu", "hidden_dim": HIDDEN, "activation": "silu", "bias": True}
MOE = {
    "kind": "moe",
    "n_experts": EXPERTS,
    "router": {"kind": "top_k", "top_k": 2, "normalize": True},
    "expert": GLU,
}
BLOCK = {
    "placement": "pre",
    "norm": {"kind": "layer_norm"},
    "mixer": {"kind": "attention", "n_heads": 4, "bias": True, "out_bias": True},
    "ffn": GLU,
}
MODEL = LLAMA | {
    "dim": DIM,
    "n_layers": LAYERS,
    "position": {"kind": "learned"},
    "blocks": {"dense": BLOCK, "sparse": BLOCK | {"ffn": MOE}},
    "pattern": ["dense", "sparse", "dense"],
    "block": BLOCK,
}
RESIDUAL = (".mixer.o.weight", ".ffn.down.weight", ".ffn.experts.down.weight")
TABLES = ("embed.table.weight", "position.table.weight")


def initial(config: dict, seed: int = 0) -> dict[str, np.ndarray]:
    model = parse("model", MODEL | {"init": config})
    mx.random.seed(seed)
    return weights_of(model.build(VOCAB))


def matrices(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {name: w for name, w in weights.items() if w.ndim >= 2 and not name.endswith("bias")}
    # tables, head, three attentions of 4, two glus of 3, one mixture of 3 and its gate
    assert len(found) == 2 + 1 + 3 * 4 + 2 * 3 + 4
    return found


def assert_spread(name: str, w: np.ndarray, std: float) -> None:
    """Mean 0 and this standard deviation, within 5 standard errors."""
    assert abs(w.mean()) < 5 * std / math.sqrt(w.size), name
    assert abs(w.std() / std - 1) < 5 / math.sqrt(2 * w.size), name


def assert_normal(name: str, w: np.ndarray, std: float) -> None:
    assert_spread(name, w, std)
    assert abs((w**4).mean() / std**4 - 3) < 5 * math.sqrt(96 / w.size), name


@pytest.mark.parametrize("depth_scaled", [False, True], ids=["flat", "by_depth"])
def test_normal_draws_every_matrix_with_its_std(depth_scaled: bool) -> None:
    weights = initial({"kind": "normal", "std": 0.05, "depth_scaled": depth_scaled})
    for name, w in matrices(weights).items():
        residual = depth_scaled and name.endswith(RESIDUAL)
        assert_normal(name, w, 0.05 / math.sqrt(2 * LAYERS) if residual else 0.05)


def test_fan_in_keeps_the_scale_of_activations() -> None:
    weights = initial({"kind": "fan_in", "gain": 0.5, "embed_std": 0.3})
    for name, w in matrices(weights).items():
        std = 0.3 if name in TABLES else 0.5 / math.sqrt(w.shape[-1])
        assert_normal(name, w, std / math.sqrt(2 * LAYERS) if name.endswith(RESIDUAL) else std)


def test_mup_draws_the_head_smaller_by_the_width() -> None:
    plain, wide = initial({"kind": "fan_in"}), initial({"kind": "mup", "base_dim": 16})
    for name, w in wide.items():
        scale = 0.5 if name == "head.weight" else 1.0  # sqrt(16 / 64)
        np.testing.assert_allclose(w, plain[name] * scale, err_msg=name)


def test_xavier_is_uniform_within_its_bound_and_tables_are_normal() -> None:
    for name, w in matrices(initial({"kind": "xavier"})).items():
        if name in TABLES:
            assert_normal(name, w, 1 / math.sqrt(DIM))
            continue
        bound = math.sqrt(6 / (w.shape[-1] + w.shape[-2]))
        assert_spread(name, w, bound / math.sqrt(3))
        assert 0.95 * bound < np.abs(w).max() <= bound, name


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_biases_begin_at_zero_norms_at_one_and_experts_differ(row: Row) -> None:
    weights = initial(dict(row.config))
    for name, w in weights.items():
        if name.endswith(".bias"):
            assert not w.any(), name
        elif w.ndim == 1:
            assert (w == 1).all(), name
    up = weights["stack.blocks.1.ffn.experts.up.weight"]
    assert all(not np.array_equal(up[0], up[e]) for e in range(1, EXPERTS))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_initial_weights_come_from_the_seed(row: Row) -> None:
    one, again, other = (initial(dict(row.config), seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert all(not np.array_equal(one[name], other[name]) for name in matrices(one))
