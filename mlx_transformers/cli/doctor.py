"""`mlxt doctor`."""

import json
from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this machine offers and what is in force: device, memory, BLAS, kernels."""
    from rich.console import Console
    from rich.table import Table

    from ..core.device import facts

    found = facts()
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in found.items():
        shown = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(name, shown or "-")
    Console(highlight=False).print(table)
