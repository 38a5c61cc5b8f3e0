"""Rows of the slot `position`."""

from .suite import Change, Row, itself, past


def position(name: str, config: dict) -> Row:
    return Row("position", name, config, sees=itself, compiled=name == config["kind"])


def bias(name: str, config: dict) -> Row:
    return Row("position", name, config, sees=past, steps=False)


def lent(name: str, **fields: object) -> Row:
    config = {"kind": "disentangled", "span": 4, **fields}
    return Row("position", name, config, sees=itself, steps=False)


SINES = {"kind": "sinusoidal"}
SHAW = {"kind": "shaw", "n_heads": 4, "head_dim": 4}
XL = {"kind": "transformer_xl", "n_heads": 4, "head_dim": 4, "theta": 50.0}

ROWS = [
    position("none", {"kind": "none"}),
    position("none that grows", {"kind": "none", "growth": 0.5, "growth_every": 3}),
    position("sinusoidal", {"kind": "sinusoidal"}),
    position("learned", {"kind": "learned"}),
    position("rope", {"kind": "rope"}),
    position("rope of half a head", {"kind": "rope", "fraction": 0.5}),
    position("rope of three features", {"kind": "rope", "fraction": 0.375}),
    position("rope that grows", {"kind": "rope", "growth": 0.5, "growth_every": 3}),
    position("rope of neighbours", {"kind": "rope", "traditional": True, "theta": 50.0}),
    position("learned from the third row on", {"kind": "learned", "offset": 2}),
    position("sines first", {"kind": "sinusoidal", "layout": "halves"}),
    position("fairseq's", SINES | {"layout": "halves", "spacing": "last", "offset": 2}),
    position("xpos", {"kind": "xpos", "base": 16.0}),
    position("xpos of neighbours", {"kind": "xpos", "traditional": True, "gamma": 1.0}),
    lent("disentangled"),
    lent("disentangled in logarithms", max_distance=8, norm={"kind": "layer_norm"}, width=6),
    lent("disentangled and absolute", absolute=True),
    position("grid", {"kind": "grid", "rows": 4, "columns": 8, "prefix": 0}),
    position("rope of a grid", {"kind": "rope_grid"}),
    position("rope of a grid by turns", {"kind": "rope_grid", "alternate": True}),
    position("axial", {"kind": "axial", "shape": (4, 8), "widths": (6, 10)}),
    position("axial of three", {"kind": "axial", "shape": (2, 4, 4), "widths": (6, 5, 5)}),
    bias("alibi", {"kind": "alibi"}),
    bias("alibi scaled", {"kind": "alibi", "max_bias": 4.0, "scale": 0.5}),
    bias("buckets", {"kind": "buckets", "n_heads": 4, "n_buckets": 6, "max_distance": 6}),
    bias("shaw", {"kind": "shaw", "n_heads": 4, "span": 3}),
    bias("shaw by head", SHAW | {"span": 20, "shared": False}),
    bias("transformer_xl", {"kind": "transformer_xl", "n_heads": 4}),
    bias("transformer_xl of a given width", XL),
]

CHANGES = {
    "none": {
        "growth": Change(2.0, row="none that grows"),
        "growth_every": Change(4, row="none that grows"),
        "growth_first": Change(1, row="none that grows"),
    },
    "grid": {
        "rows": 5,
        "columns": 7,
        "prefix": 2,
        "resample": Change("bilinear", result=False),
        "antialias": Change(True, result=False),
    },
    "rope_grid": {"theta": Change(100.0, row="rope of a grid by turns"), "alternate": True},
    "axial": {"shape": (8, 4), "widths": (8, 8), "std": 0.5},
    "sinusoidal": {
        "theta": 100.0,
        "layout": "halves",
        "spacing": "last",
        "offset": 1,
        "skips_padding": Change(True, result=False),
    },
    "learned": {"offset": 2, "length": 20, "skips_padding": Change(True, result=False)},
    "disentangled": {
        "span": 3,
        "max_distance": 6,
        "norm": {"kind": "layer_norm"},
        "width": 5,
        "absolute": True,
    },
    "alibi": {"max_bias": 4.0, "scale": 0.5},
    "buckets": {"n_heads": 1, "n_buckets": 4, "max_distance": 4, "absolute": 2}
    | {"summaries": True},
    "shaw": {
        "span": 2,
        "n_heads": Change(1, row="shaw by head"),
        "head_dim": Change(4, result=False),
        "shared": False,
    },
    "transformer_xl": {
        "n_heads": Change(1, row="transformer_xl of a given width"),
        "head_dim": Change(4, result=False),
        "theta": 100.0,
    },
    "xpos": {"theta": 100.0, "traditional": True, "gamma": 1.0, "base": 4.0},
    "rope": {
        "theta": 100.0,
        "fraction": 0.5,
        "traditional": True,
        "scaling": {"kind": "linear", "factor": 2.0},
        "growth": Change(2.0, row="rope that grows"),
        "growth_every": Change(4, row="rope that grows"),
        "growth_first": Change(1, row="rope that grows"),
    },
}
