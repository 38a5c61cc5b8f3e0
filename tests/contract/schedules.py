"""Rows of the slot `schedule`."""

from .suite import Change, Row

ROWS = [
    Row("schedule", kind, {"kind": kind})
    for kind in ("constant", "linear", "cosine", "cosine_restarts", "inverse_sqrt")
]
ROWS += [
    Row("schedule", "slanted triangle", {"kind": "slanted_triangular"}),
    Row("schedule", "wsd", {"kind": "wsd", "decay_fraction": 0.5, "final_fraction": 0.1}),
    Row("schedule", "two cycles", {"kind": "cosine_restarts", "cycles": 2, "warmup": 3}),
]

WARMUP = {"warmup": 4}
FINAL = WARMUP | {"final_fraction": 0.3}

CHANGES = {
    "constant": WARMUP,
    "linear": FINAL,
    "cosine": FINAL,
    "cosine_restarts": FINAL | {"cycles": 3, "growth": Change(2.0, row="two cycles")},
    "inverse_sqrt": WARMUP,
    "slanted_triangular": {"cut_fraction": 0.3, "ratio": 8.0},
    "wsd": FINAL | {"decay_fraction": 0.2, "shape": "sqrt"},
}
