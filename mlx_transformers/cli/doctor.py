"""`mlxt doctor`: facts on the machine and the backend."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, user_path
from .terminal import print_table

UNITS = {"_gib": " GiB", "_gflop_per_s": " GFLOP/s"}
"""Units by the ending of a name."""


def doctor(
    as_json: AsJson = False,
    hosts: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            help="Check the machines of an mlx.launch host file instead.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the facts that decide speed here: device, memory, BLAS library, kernel compiler."""
    if hosts is not None:
        _cluster(hosts, as_json)
        return
    from ..core.device import facts

    machine = facts()
    if as_json:
        print(json.dumps(machine, indent=2, default=str))
        return
    warnings = machine.pop("warnings", [])
    print_table(("", ""), [_row(name, value) for name, value in machine.items()])
    print()
    for text in warnings:
        print(f"Slower than necessary: {text}")
    if not warnings:
        print("No warnings.")


def _cluster(path: Path, as_json: bool) -> None:
    """Check the machines of a cluster; exit code 1 if a check failed."""
    from ..distributed.hosts import NOT_CHECKED, check, read_hosts

    results = [
        (rank, result) for rank, host in enumerate(read_hosts(path)) for result in check(host)
    ]
    if as_json:
        checks = [{"rank": rank, **asdict(result)} for rank, result in results]
        print(json.dumps({"checks": checks, "not_checked": NOT_CHECKED}, indent=2))
    else:
        rows = [(str(rank), c.host, c.what, c.verdict, c.detail) for rank, c in results]
        print_table(("rank", "host", "check", "verdict", ""), rows)
        print("\nNot checked from here:")
        for text in NOT_CHECKED:
            print(f"- {text}")
    if any(result.verdict == "failed" for _, result in results):
        raise typer.Exit(1)


def _row(name: str, value: object) -> tuple[str, str]:
    """A fact as a row: its name, and its value with the unit."""
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " "), f"{value:,}{unit}"
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list):
        text = "\n".join(map(str, value)) or "none"
    else:
        text = "none" if value in (None, "") else str(value)
    return name.replace("_", " "), text
