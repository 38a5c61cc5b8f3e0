"""Rows of the block: not a slot, but it has fields and owns the residual wiring."""

from typing import get_args

from mlx_transformers.layers.residual import Placement

from .ffns import CHANNEL, GLU, MOE
from .mixers import CROSS, HEADS
from .suite import Change, Row, last

BLOCK = {
    "placement": "pre",
    "norm": {"kind": "rms_norm"},
    "mixer": HEADS,
    "ffn": GLU,
}

ROWS = [
    *(Row("block", name, BLOCK | {"placement": name}) for name in get_args(Placement)),
    *(
        Row("block", f"parallel {name}", BLOCK | {"placement": name, "arrangement": "parallel"})
        for name in get_args(Placement)
    ),
    Row("block", "dropout", BLOCK | {"dropout": 0.3}),
    Row("block", "window", BLOCK | {"mixer": HEADS | {"window": 3}}, sees=last(3)),
    Row("block", "two norms side by side", BLOCK | {"arrangement": "parallel_norms"}),
    Row("block", "scaled", BLOCK | {"skip": 1.5, "scale": 0.3}),
    Row("block", "layer scale", BLOCK | {"layer_scale": 0.4}),
    Row("block", "norm of the ffn's own", BLOCK | {"ffn_norm": {"kind": "layer_norm"}}),
    Row("block", "positions of its own", BLOCK | {"position": {"kind": "alibi"}}),
    *(
        Row("block", f"cross {name}", BLOCK | {"placement": name, "cross": CROSS})
        for name in get_args(Placement)
    ),
    Row("block", "a branch", BLOCK | {"branch": {"kind": "convolution", "kernel": 3}}),
    Row("block", "an ffn in chunks", BLOCK | {"ffn_chunk": 4, "dropout": 0.2}),
    Row("block", "experts", BLOCK | {"ffn": MOE}),
    Row("block", "an ffn with a state", BLOCK | {"ffn": CHANNEL}),
    Row(
        "block",
        "an ffn with a state side by side",
        BLOCK | {"ffn": CHANNEL, "arrangement": "parallel"},
    ),
    Row("block", "a mixer alone", {k: v for k, v in BLOCK.items() if k != "ffn"}),
]

CHANGES = {
    "block": {
        "placement": "post",
        "arrangement": "parallel",
        "dropout": 0.5,
        "norm": {"kind": "layer_norm"},
        "skip": 1.5,
        "scale": 0.5,
        "layer_scale": 0.4,
        "ffn_norm": {"kind": "layer_norm"},
        "position": {"kind": "alibi"},
        "cross": CROSS,
        "branch": {"kind": "convolution", "kernel": 2},
        "mixer": HEADS | {"n_heads": 2},
        "ffn": MOE,
        "route": {"capacity": 0.5},
        "ffn_chunk": Change(2, result=False),
    }
}
