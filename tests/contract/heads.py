"""Rows of the slot `head`."""

from .suite import Change, Row, itself

MLM = {"kind": "mlm", "tied": True, "activation": "gelu", "norm": {"kind": "layer_norm"}}
TAGS = {"kind": "tags", "n_classes": 3, "activation": "gelu", "map_bias": False}


def head(name: str, **fields: object) -> Row:
    return Row("head", name, {"kind": "lm", **fields}, sees=itself)


ROWS = [
    head("untied", tied=False),
    head("tied", tied=True),
    head("tied with bias and softcap", tied=True, bias=True, softcap=2.0),
    head("scaled and narrow", tied=True, scale=0.5, width=6),
    Row("head", "mlm", MLM, sees=itself),
    Row("head", "mlm narrow", MLM | {"width": 6, "bias": True, "scale": 2.0}, sees=itself),
    Row("head", "tags", {"kind": "tags", "n_classes": 3}, sees=itself),
    Row("head", "tags normalised", TAGS | {"norm": {"kind": "layer_norm"}}, sees=itself),
    Row("head", "rtd", {"kind": "tags", "n_classes": 1, "activation": "gelu"}, sees=itself),
]

VOCABULARY = {"bias": True, "softcap": 1.0, "scale": 0.5, "width": 6}

CHANGES = {
    "lm": VOCABULARY | {"tied": True},
    "mlm": VOCABULARY
    | {
        "tied": False,
        "activation": "relu",
        "map_bias": False,
        "norm": {"kind": "rms_norm"},
    },
    "tags": {
        "n_classes": 4,
        "activation": "relu",
        "map_bias": Change(False, row="rtd"),
        "norm": Change({"kind": "layer_norm"}, row="rtd"),
    },
}
