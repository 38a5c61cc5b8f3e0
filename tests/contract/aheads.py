"""Rows of the slot `ahead`."""

from .blocks import BLOCK
from .suite import Row

MTP = {"kind": "mtp", "block": BLOCK}

ROWS = [
    Row("ahead", "mtp", MTP, steps=False),
    Row("ahead", "three tokens", MTP | {"n": 3}, steps=False),
]

CHANGES = {"mtp": {"n": 2, "block": BLOCK | {"placement": "sandwich"}}}
