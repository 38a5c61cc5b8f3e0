"""Rows of the slot `init`."""

from .suite import Row

ROWS = [
    Row("init", "normal", {"kind": "normal", "std": 0.02}),
    Row("init", "normal by depth", {"kind": "normal", "std": 0.02, "depth_scaled": True}),
    Row("init", "fan in", {"kind": "fan_in"}),
    Row("init", "fan in, other widths", {"kind": "fan_in", "gain": 0.5, "embed_std": 0.1}),
    Row("init", "xavier", {"kind": "xavier"}),
    Row("init", "mup", {"kind": "mup", "base_dim": 32}),
]

CHANGES = {
    "normal": {"std": 0.1, "depth_scaled": True},
    "fan_in": {"gain": 2.0, "embed_std": 0.1},
    "xavier": {},
    "mup": {"base_dim": 16, "gain": 2.0, "embed_std": 0.1},
}
