"""Rows of the slot `position`."""

from .suite import Row, itself


def position(name: str, config: dict) -> Row:
    return Row("position", name, config, sees=itself, compiled=name == config["kind"])


ROWS = [
    position("none", {"kind": "none"}),
    position("sinusoidal", {"kind": "sinusoidal"}),
    position("learned", {"kind": "learned"}),
    position("rope", {"kind": "rope"}),
    position("rope of half a head", {"kind": "rope", "fraction": 0.5}),
    position("rope of neighbours", {"kind": "rope", "traditional": True, "theta": 50.0}),
]

CHANGES = {
    "none": {},
    "sinusoidal": {"theta": 100.0},
    "learned": {},
    "rope": {"theta": 100.0, "fraction": 0.5, "traditional": True},
}
