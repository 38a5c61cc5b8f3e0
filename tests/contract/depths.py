"""Rows of the slot `depth`."""

from .suite import Change, Row, itself

UNIVERSAL = {"kind": "universal", "threshold": 0.9}
DROP = {"kind": "layer_drop", "rate": 0.4}


def depth(name: str, config: dict, compiled: bool = False) -> Row:
    return Row("depth", name, config, sees=itself, compiled=compiled)


ROWS = [
    depth("universal", UNIVERSAL, compiled=True),
    depth("universal learned", UNIVERSAL | {"steps": "learned", "output": "sum"}),
    depth("layer drop", DROP, compiled=True),
    depth("layer drop by row", DROP | {"rate": 0.9, "by": "row", "over_depth": "linear"}),
]

CHANGES = {
    "universal": {
        "threshold": 0.5,
        "ponder_loss": 0.5,
        "output": "sum",
        "steps": "none",
        "halting_bias": -1.0,
    },
    "layer_drop": {
        "rate": 0.9,
        "over_depth": "exponential",
        "over_time": "exponential",
        "by": Change("batch", row="layer drop by row"),
    },
}
