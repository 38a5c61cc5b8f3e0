"""Rows of the slot `optim`."""

from .suite import Row


def optim(kind: str, **fields: object) -> Row:
    return Row("optim", kind, {"kind": kind, "learning_rate": 0.1, **fields})


ROWS = [
    optim("sgd", momentum=0.9, weight_decay=0.1),
    optim("adam"),
    optim("adamw", weight_decay=0.1),
    optim("adafactor", weight_decay=0.1),
    optim("lion", weight_decay=0.1),
    optim("muon", weight_decay=0.1),
]

LAYERS = {"layer_factor": 2.6, "unfreeze_every": 1}
RATE = LAYERS | {"learning_rate": 0.3, "schedule": {"kind": "linear"}}
DECAY = RATE | {"weight_decay": 0.3, "decay": "all"}
PACKED = {"state": "bfloat16"}

CHANGES = {
    "sgd": DECAY | {"momentum": 0.5, "nesterov": True},
    "adam": RATE | PACKED | {"betas": [0.5, 0.9], "eps": 0.1},
    "adamw": DECAY | PACKED | {"betas": [0.5, 0.9], "eps": 0.1},
    "adafactor": DECAY
    | {
        "eps": [0.1, 0.5],
        "clip_threshold": 0.1,
        "decay_rate": 0.3,
        "beta1": 0.9,
        "scale_parameter": False,
    },
    "lion": DECAY | PACKED | {"betas": [0.5, 0.6]},
    "muon": DECAY
    | PACKED
    | {
        "momentum": 0.5,
        "nesterov": False,
        "iterations": 2,
        "scale": "rms",
        "rest": ["embed"],
        "rest_learning_rate": 0.01,
        "rest_betas": [0.5, 0.9],
        "rest_eps": 0.1,
    },
}
