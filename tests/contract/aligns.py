"""Rows of the slot `align`."""

from .suite import Row, itself

ADDITIVE = {"kind": "additive"}
LOCAL = {
    "kind": "local",
    "score": {"kind": "general"},
    "center": "predictive",
    "window": 2,
}


def align(name: str, config: dict, compiled: bool = False) -> Row:
    return Row("align", name, config, sees=itself, compiled=compiled)


ROWS = [
    align("additive", ADDITIVE, compiled=True),
    align("additive wide", ADDITIVE | {"hidden_dim": 24}),
    align("dot", {"kind": "dot"}, compiled=True),
    align("general", {"kind": "general"}, compiled=True),
    align("concat", {"kind": "concat"}, compiled=True),
    align("local predictive", LOCAL, compiled=True),
    align("local monotonic", LOCAL | {"center": "monotonic", "score": {"kind": "dot"}}),
    align("local concat", LOCAL | {"score": {"kind": "concat"}, "window": 3}),
]

CHANGES = {
    "additive": {"hidden_dim": 20},
    "dot": {},
    "general": {},
    "concat": {},
    "local": {"score": {"kind": "dot"}, "center": "monotonic", "window": 1},
}
