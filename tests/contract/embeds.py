"""Rows of the slot `embed`."""

from .suite import Change, Row, itself


def embed(name: str, position: str = "none", **fields: object) -> Row:
    config = {"kind": "token", **fields}
    return Row("embed", name, config, sees=itself, position={"kind": position})


def neighbours(t: int, s: int) -> bool:
    """Whether a kernel of width 3 at t reads s."""
    return abs(t - s) <= 1


PIXELS = {
    "kind": "patches",
    "size": 1,
    "channels": 1,
    "class_token": False,
    "mean": [0.02],
    "std": [0.02],
}

ROWS = [
    embed("token"),
    embed("token scaled", scale="sqrt_dim"),
    embed("token with sinusoidal positions", "sinusoidal", scale="sqrt_dim"),
    embed("token with learned positions and dropout", "learned", dropout=0.2),
    embed("token times a number", scale=3.0),
    embed("bert", "learned", n_types=2, norm={"kind": "layer_norm"}),
    embed("normalised words", "learned", norm={"kind": "layer_norm"}, norm_of="words"),
    embed("factorised", "learned", n_types=2, norm={"kind": "layer_norm"}, width=6),
    embed(
        "factorised and bare",
        "learned",
        norm={"kind": "layer_norm"},
        width=6,
        project="bare_sum",
    ),
    Row(
        "embed",
        "patches",
        PIXELS,
        sees=itself,
        position={"kind": "none"},
        steps=False,
    ),
    Row(
        "embed",
        "frames",
        {"kind": "frames", "n_mels": 1, "strides": [1]},
        sees=neighbours,
        position={"kind": "none"},
        whole=True,
        pads=False,
        steps=False,
    ),
    embed("factorised words", "learned", width=6, project="words", project_bias=True),
]

CHANGES = {
    "frames": {"n_mels": 3, "kernel": 1, "strides": [2], "dropout": 0.5},
    "patches": {
        "size": 3,
        "channels": 3,
        "bias": False,
        "class_token": True,
        "distillation_token": True,
        "registers": 2,
        "norm": {"kind": "layer_norm"},
        "mean": [0.2],
        "std": [0.03],
        "dropout": 0.5,
    },
    "token": {
        "scale": 2.5,
        "n_types": 2,
        "norm": {"kind": "layer_norm"},
        "norm_of": Change("words", row="bert"),
        "width": 6,
        "project": Change("words", row="factorised"),
        "project_bias": Change(True, row="factorised"),
        "dropout": 0.5,
        "zeroed": 1,
    },
}
