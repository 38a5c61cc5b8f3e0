"""Rows of the slot `optim`."""

from .suite import Change, Row


def optim(kind: str, **fields: object) -> Row:
    return Row("optim", kind, {"kind": kind, "learning_rate": 0.1, **fields})


ROWS = [
    optim("sgd", momentum=0.9, weight_decay=0.1),
    optim("adam", weight_decay=0.1),
    optim("adamw", weight_decay=0.1),
    optim("adafactor", weight_decay=0.1),
    Row("optim", "relative step", {"kind": "adafactor"}),
    optim("lion", weight_decay=0.1),
    optim("muon", weight_decay=0.1),
    optim("lamb", weight_decay=0.1),
    optim("sophia_g", weight_decay=0.1),
    optim("sophia_h", weight_decay=0.1),
    optim("shampoo", weight_decay=0.1),
    optim("soap", weight_decay=0.1),
    optim("schedule_free", weight_decay=0.1, schedule={"kind": "constant", "warmup": 3}),
]

LAYERS = {"layer_factor": 2.6, "unfreeze_every": 1}
RATE = LAYERS | {"learning_rate": 0.3, "schedule": {"kind": "linear"}}
DECAY = RATE | {"weight_decay": 0.3, "decay": "all"}
PACKED = {"state": "bfloat16"}

CHANGES = {
    "sgd": DECAY | {"momentum": 0.5, "dampening": 0.5, "nesterov": True},
    "adam": DECAY | PACKED | {"base_dim": 8, "betas": [0.5, 0.9], "eps": 0.1, "amsgrad": True},
    "adamw": DECAY | PACKED | {"base_dim": 8, "betas": [0.5, 0.9], "eps": 0.1, "amsgrad": True},
    "adafactor": DECAY
    | {
        "eps": [0.1, 0.5],
        "clip_threshold": 0.1,
        "decay_rate": 0.3,
        "beta1": 0.9,
        "scale_parameter": False,
        "warmup_init": Change(True, row="relative step"),
    },
    "lion": DECAY | PACKED | {"base_dim": 8, "betas": [0.5, 0.6]},
    "muon": DECAY
    | PACKED
    | {
        "momentum": 0.5,
        "nesterov": False,
        "iterations": 2,
        "coefficients": [2.0, -1.5, 0.5],
        "scale": "rms",
        "rest": ["embed"],
        "rest_learning_rate": 0.01,
        "rest_betas": [0.5, 0.9],
        "rest_eps": 0.1,
    },
    "lamb": DECAY
    | PACKED
    | {
        "betas": [0.5, 0.9],
        "eps": 0.1,
        "bias_correction": False,
        "largest_norm": 0.01,
        "trust": False,
    },
    "sophia_g": DECAY | {"betas": [0.5, 0.9], "rho": 1.0, "eps": 1.0, "every": 1},
    "sophia_h": DECAY | {"betas": [0.5, 0.9], "gamma": 1.0, "eps": 1.0, "every": 1},
    "shampoo": DECAY | {"eps": 0.1, "momentum": 0.5, "decay_rate": 0.9, "every": 2},
    "soap": DECAY | {"betas": [0.5, 0.9], "factor_decay": 0.5, "eps": 0.1, "every": 1},
    "schedule_free": DECAY | {"betas": [0.5, 0.9], "eps": 0.1, "power": 2.0, "rate_power": 0.5},
}
