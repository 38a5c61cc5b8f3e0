"""Rows of the slot `clip`."""

from .suite import Row

ROWS = [Row("clip", kind, {"kind": kind}) for kind in ("none", "norm", "adaptive")]

CHANGES = {
    "none": {},
    "norm": {"max_norm": 0.3},
    "adaptive": {"factor": 0.1, "eps": 0.5},
}
