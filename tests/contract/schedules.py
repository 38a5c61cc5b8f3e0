"""Rows of the slot `schedule`."""

from typing import Any

from .suite import Change, Row


def warmed(name: str, **fields: Any) -> Row:
    return Row("schedule", name, {"kind": name.split(",")[0], "warmup": 3, **fields})


ROWS = [
    warmed(kind)
    for kind in ("constant", "linear", "cosine", "cosine_restarts", "inverse_sqrt", "polynomial")
]
ROWS += [
    warmed("exponential", factor=0.9),
    warmed("steps", every=3),
    warmed("steps, at", at=[5, 9]),
    warmed("wsd", decay_fraction=0.5, final_fraction=0.1),
    warmed("cosine_restarts, two cycles", cycles=2),
    Row("schedule", "slanted triangle", {"kind": "slanted_triangular"}),
    Row("schedule", "one_cycle", {"kind": "one_cycle"}),
    Row("schedule", "one_cycle, mirrored", {"kind": "one_cycle", "three_phases": True}),
]

WARMUP: dict[str, Any] = {"warmup": 4, "warmup_from": 0.5, "warmup_shape": "cosine"}
FINAL = WARMUP | {"final_fraction": 0.3}
TWO = "cosine_restarts, two cycles"

CHANGES: dict[str, dict[str, Any]] = {
    "constant": WARMUP,
    "linear": FINAL,
    "cosine": FINAL | {"cycles": 1.5},
    "cosine_restarts": FINAL
    | {
        "cycles": 3,
        "length": 4,
        "growth": Change(2.0, row=TWO),
        "whole": Change(False, row=TWO),
    },
    "inverse_sqrt": WARMUP | {"timescale": 9},
    "polynomial": FINAL | {"power": 3.0},
    "exponential": WARMUP | {"factor": 0.5},
    "steps": WARMUP | {"factor": 0.5, "every": 4, "at": Change([7], row="steps, at")},
    "slanted_triangular": {"cut_fraction": 0.3, "ratio": 8.0},
    "one_cycle": {
        "rise_fraction": 0.4,
        "start_fraction": 0.5,
        "final_fraction": 0.3,
        "shape": "linear",
        "three_phases": True,
    },
    "wsd": FINAL | {"decay_fraction": 0.2, "shape": "sqrt", "stable": 2, "decay": 4},
}
