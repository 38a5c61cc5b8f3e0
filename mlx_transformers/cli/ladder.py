"""`mlxt ladder`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Recipe, Runs, Sets
from .preparing import watch
from .terminal import print_table


def ladder(
    recipe: Recipe,
    set: Sets = None,
    first: Annotated[
        str | None,
        typer.Option(
            "--from", help="The first rung.", metavar="RECIPE", show_default="the chain's root"
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="The ladder's folder below runs/.", metavar="NAME", show_default="ladder-RECIPE"
        ),
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe and all it extends on one budget, and tabulate what each idea brought.

    Every rung takes [data] and the budget of [train] from the last recipe; --set counts for all.
    Stopped, the same command goes on where it was.
    """
    from ..report import table
    from ..verbs.ladder import climb

    with watch() as seen:
        folder, rungs = climb(
            recipe, set or [], first=first, name=name, root=runs, say=seen.say, progress=seen
        )
    if not rungs:
        raise typer.Exit(1)
    titles = [column.title for column in table.COLUMNS]
    print_table(titles, table.cells(rungs), right=range(1, len(titles)))
    files = [*table.write(folder, rungs), *_plot(folder, rungs), *_compared(folder, rungs)]
    print("Written: " + ", ".join(map(str, files)))


def _compared(folder: Path, rungs: list[Any]) -> list[Path]:
    """The runs of all rungs on the same axes, as `mlxt report` writes them."""
    from ..core.errors import RunError
    from ..report.runs import report

    try:
        return [report([folder / rung.recipe for rung in rungs], folder / "report.html")]
    except RunError as error:
        print(f"Without a report: {error}")
        return []


def _plot(folder: Path, rungs: list[Any]) -> list[Path]:
    from ..core.errors import RunError
    from ..report.plot import validation_curves
    from ..runs.folder import RunFolder

    curves = {
        rung.recipe: [
            (r["tokens"], r["val_bpb"])
            for r in RunFolder(folder / rung.recipe).records()
            if "val_bpb" in r
        ]
        for rung in rungs
    }
    try:
        return [validation_curves(curves, folder / "ladder.svg")]
    except RunError as error:
        print(f"Without the plot: {error}")
        return []
