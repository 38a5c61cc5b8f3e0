"""`mlxt doctor`."""

import json

from .options import AsJson
from .terminal import print_table


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine offers and what is in force: device, memory, BLAS, kernels."""
    from ..core.device import facts

    found = facts()
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    print_table(("fact", "found"), [(name, _shown(value)) for name, value in found.items()])


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)
