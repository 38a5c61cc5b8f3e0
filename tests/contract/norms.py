"""Rows of the slot `norm`."""

from .suite import Row, itself


def norm(name: str, config: dict, compiled: bool = False) -> Row:
    return Row("norm", name, config, sees=itself, compiled=compiled)


ROWS = [
    norm("layer norm", {"kind": "layer_norm"}, compiled=True),
    norm("layer norm without bias", {"kind": "layer_norm", "bias": False, "eps": 1e-3}),
    norm("rms norm", {"kind": "rms_norm"}, compiled=True),
    norm("layer norm without weights", {"kind": "layer_norm", "weight": False}),
    norm("layer norm from one", {"kind": "layer_norm", "unit_offset": True}),
    norm("rms norm without weights", {"kind": "rms_norm", "weight": False}),
    norm("rms norm from one", {"kind": "rms_norm", "unit_offset": True}),
    norm("scale norm", {"kind": "scale_norm"}),
    norm("dyt", {"kind": "dyt"}, compiled=True),
    norm("none", {"kind": "none"}),
]

CHANGES = {
    "layer_norm": {"eps": 0.5, "bias": False, "weight": False, "unit_offset": True},
    "rms_norm": {"eps": 0.5, "weight": False, "unit_offset": True},
    "scale_norm": {"eps": 0.5},
    "dyt": {"alpha": 0.9},
    "none": {},
}
