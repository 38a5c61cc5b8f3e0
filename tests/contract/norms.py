"""Rows of the slot `norm`."""

from .suite import Row, itself


def norm(name: str, config: dict, compiled: bool = False) -> Row:
    return Row("norm", name, config, sees=itself, compiled=compiled)


ROWS = [
    norm("layer norm", {"kind": "layer_norm"}, compiled=True),
    norm("layer norm without bias", {"kind": "layer_norm", "bias": False, "eps": 1e-3}),
    norm("rms norm", {"kind": "rms_norm"}, compiled=True),
    norm("none", {"kind": "none"}),
]

CHANGES = {
    "layer_norm": {"eps": 0.5, "bias": False},
    "rms_norm": {"eps": 0.5},
    "none": {},
}
