"""`mlxt doctor`."""

import json
from typing import Any

from .options import AsJson
from .terminal import print_table

UNITS = {"_gib": " GiB", "_gflop_per_s": " GFLOP/s"}
"""Endings of names that say the unit."""


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine offers and what is in force: device, memory, BLAS, kernels."""
    from ..core.device import facts

    found = facts()
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    warnings = found.pop("warnings", [])
    print_table(("", ""), [_row(name, value) for name, value in found.items()])
    print()
    for text in warnings:
        print(f"Slower than it could be: {text}")
    if not warnings:
        print("No warnings.")


def _row(name: str, value: Any) -> tuple[str, str]:
    """A fact in words, with the unit beside the number."""
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " "), f"{value:,}{unit}"
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    elif isinstance(value, list):
        shown = "\n".join(map(str, value)) or "none"
    else:
        shown = "none" if value in (None, "") else str(value)
    return name.replace("_", " "), shown
