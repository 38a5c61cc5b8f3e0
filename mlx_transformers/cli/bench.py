"""`mlxt bench`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .completion import recipe_names
from .options import UNMEASURED, Sets, note_unread, user_path
from .terminal import print_table


def bench(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            help="Recipes to measure.",
            metavar="RECIPE",
            show_default="the five of the ladder, base_tiny to mixtral_tiny",
            autocompletion=recipe_names,
        ),
    ] = None,
    set: Sets = None,
    seconds: Annotated[
        float,
        typer.Option(min=0.01, max=3600, help="Training to measure, per recipe.", metavar="S"),
    ] = 8.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--json",
            parser=user_path,
            help="Write all figures to a new file.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure this machine in three minutes: a table, and a line of it for docs/macs.md.

    Energy is read on macOS, by root: run sudo -v first.
    """
    from ..report import bench as table
    from ..verbs import bench as verb

    if out is not None:
        verb.check_new(out)
    note_unread(set, unread=UNMEASURED)
    result = verb.bench(recipes or verb.RUNGS, set or [], seconds=seconds, say=_say)
    rows = result.rows
    print_table(table.TITLES, [table.cells(row) for row in rows], right=range(1, 6))
    print()
    for reason in table.reasons(rows):
        print(reason)
    machine = (result.chip, f"{result.memory_gib:.0f}", result.system, result.mlx)
    print(f"The line for docs/macs.md, after {result.seconds:.0f} s:\n")
    print(table.heads([row.recipe for row in rows]))
    print(table.line(machine, rows))
    if out is not None:
        print(f"\nWritten: {verb.write_json(result, out)}")
    if all(row.error for row in rows):
        raise typer.Exit(1)


def _say(text: str) -> None:
    """Print progress to standard error, apart from the table."""
    print(text, file=sys.stderr, flush=True)
