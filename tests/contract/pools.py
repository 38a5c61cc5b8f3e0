"""Rows of the slot `pool`."""

from .suite import Change, Row, everything, first

ATTENTION = {
    "kind": "attention",
    "n_heads": 4,
    "hidden_dim": 12,
    "activation": "gelu",
    "norm": {"kind": "layer_norm"},
}
CLASSIFIER = {"kind": "classifier", "n_classes": 3}


def pool(name: str, config: dict, sees: object = everything, **facts: object) -> Row:
    return Row("pool", name, config, sees=sees, whole=True, **facts)  # type: ignore[arg-type]


def end(t: int, s: int) -> bool:
    return s == 8


ROWS = [
    pool("classifier", CLASSIFIER, first),
    pool("classifier of the mean", CLASSIFIER | {"reads": "mean", "activation": "gelu"}),
    pool("classifier of the last", CLASSIFIER | {"reads": "last", "activation": None}, end),
    pool("classifier with dropout", CLASSIFIER | {"dropout": 0.3, "bias": False}, first),
    pool(
        "classifier of modernbert",
        CLASSIFIER | {"activation": "gelu", "map_bias": False, "norm": {"kind": "layer_norm"}},
        first,
    ),
    pool("scalar", {"kind": "scalar"}, end),
    pool("sentence", {"kind": "sentence"}),
    pool("sentence with a map", {"kind": "sentence", "activation": "tanh", "normalize": False}),
    pool("sentence of the final", {"kind": "sentence", "reads": "final"}, end, pads=False),
    # a bias of the keys adds the same to every score of the query
    pool("attention", ATTENTION, silent=("k.bias",)),
    # Fourteen vectors are neither all pairs of residues nor whole sequences.
    pool("distogram", {"kind": "distogram"}, pads=False),
    pool(
        "outer product",
        {"kind": "outer_product", "length": 3, "outer_dim": 4, "pair_dim": 6},
        pads=False,
    ),
    pool("sentence of the first", {"kind": "sentence", "reads": "first"}, first),
]

CHANGES = {
    "scalar": {"reads": "mean", "bias": False, "dropout": 0.5},
    "distogram": {"n_classes": 4},
    "outer_product": {"n_classes": 4, "length": 1, "outer_dim": 3, "pair_dim": 5},
    "classifier": {
        "width": 7,
        "n_classes": 4,
        "reads": "mean",
        "skip": Change(2, row="classifier of the mean"),
        "activation": "relu",
        "map_bias": False,
        "norm": {"kind": "layer_norm"},
        "bias": False,
        "dropout": 0.5,
    },
    "attention": {
        "n_heads": 2,
        "hidden_dim": 8,
        "activation": "relu",
        "norm": {"kind": "layer_norm", "eps": 0.1},
    },
    "sentence": {
        "reads": "last",
        "skip": Change(2, row="sentence"),
        "norm": {"kind": "layer_norm"},
        "map_bias": Change(False, row="sentence with a map"),
        "activation": "relu",
        "width": Change(6, row="sentence with a map"),
        "normalize": False,
    },
}
