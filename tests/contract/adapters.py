"""Rows of the slot `adapt`, and the small model with biases that they adapt."""

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from mlx_transformers.layers.adapters.adapter import adapt as apply

from .models import LLAMA
from .suite import VOCAB, Change, Row, parse

WIDE = LLAMA | {
    "dim": 64,
    "block": LLAMA["block"]
    | {
        "mixer": {"kind": "attention", "n_heads": 4, "n_kv_heads": 2, "bias": True},
        "ffn": {"kind": "mlp", "hidden_dim": 64, "activation": "silu", "bias": True},
    },
}
TOKENS = mx.array([[1, 5, 2, 0, 12, 7], [3, 3, 9, 4, 11, 6]])


def adapted(kind: Any, table: dict[str, Any] = WIDE, moved: bool = True) -> Any:
    """A small model with adapters, whose trained weights have moved from their start."""
    mx.random.seed(0)
    model = parse("model", table).build(VOCAB)
    noise = {name: 0.3 * mx.random.normal(a.shape) for name, a in tree_flatten(model.parameters())}
    model.update(tree_unflatten([(n, a + noise[n]) for n, a in tree_flatten(model.parameters())]))
    apply(model, kind)
    if moved:
        model.update(tree_map(shaken, model.trainable_parameters()))
    return model


def shaken(array: mx.array) -> mx.array:
    return array + 0.2 * mx.random.normal(array.shape)


FEW = {"targets": ["mixer.q", "ffn.down"]}


def adapt(name: str, config: dict) -> Row:
    return Row("adapt", name, config)


BOTTLENECK = {"kind": "bottleneck", "width": 4, "reads": "sum", "norm_after": "sum", "gate": True}

ROWS = [
    adapt("lora", {"kind": "lora", "rank": 2, "ranks": {"mixer.q": 3}, "alphas": {"ffn": 2.0}}),
    adapt("lora of table", {"kind": "lora", "rank": 2, "targets": ["embedding", "head", "all"]}),
    adapt("quantized", {"kind": "lora", "rank": 2, "base_bits": 4, "base_group": 32}),
    adapt("dora", {"kind": "dora", "rank": 2, **FEW}),
    adapt("vera", {"kind": "vera", "rank": 4, **FEW}),
    adapt("ia3", {"kind": "ia3"}),
    adapt("bitfit", {"kind": "bitfit"}),
    adapt("full", {"kind": "full", "train": ["*_residual"]}),
    adapt("prefix", {"kind": "prefix", "length": 3}),
    adapt("prompt", {"kind": "prompt", "length": 3}),
    adapt("bottleneck", {"kind": "bottleneck", "width": 4}),
    adapt("bottleneck of sums", BOTTLENECK),
]

TRAINED = {"train": ["norm"], "base_bits": 4}
OF_LAYERS = {
    **TRAINED,
    "targets": ["mixer.q", "ffn"],
    "exclude": ["ffn.down"],
    "layers": [1],
    "bias": "all",
}
LOW_RANK = {
    **OF_LAYERS,
    "rank": 5,
    "alpha": 3.0,
    "scaling": "rslora",
    "dropout": 0.5,
    "ranks": {"ffn.down": 1},
    "alphas": {"ffn.down": 1.0},
}

# Without base_bits there is nothing to group, and an untied head reads no table.
SAME_BASE = {"base_group": Change(32, result=False)}
SAME = SAME_BASE | {"tied_head": Change(False, result=False)}

CHANGES = {
    "lora": LOW_RANK
    | {
        "base_group": Change(64, row="quantized"),
        "tied_head": Change(False, result=False),
    },
    "dora": LOW_RANK | SAME,
    "vera": {**OF_LAYERS, "rank": 6, "d_start": 0.3, "dropout": 0.5, **SAME_BASE},
    "ia3": {**OF_LAYERS, "exclude": ["mixer.k"], "inputs": ["ffn.up"], **SAME_BASE},
    "bitfit": TRAINED | SAME_BASE,
    "full": TRAINED | SAME_BASE,
    "prefix": TRAINED | SAME_BASE | {"length": 4, "layers": [1]},
    "prompt": TRAINED | SAME_BASE | {"length": 4},
    "bottleneck": TRAINED
    | SAME_BASE
    | {
        "width": 5,
        "after": ["ffn"],
        "layers": [0],
        "activation": "gelu",
        "parallel": True,
        "reads": "sum",
        "skip": Change("input", row="bottleneck of sums"),
        "norm_before": True,
        "norm_after": "output",
        "scaling": "channel",
        "gate": True,
        "dropout": 0.5,
    },
}
