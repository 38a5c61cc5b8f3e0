"""`mlxt ladder`."""

from pathlib import Path
from typing import Annotated

import typer


def ladder(
    recipe: Annotated[str, typer.Argument(help="The last recipe of a chain.")],
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change one key of every rung."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Folder below runs/; ladder-RECIPE if left out.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="The folder of runs.")] = Path("runs"),
) -> None:
    """Train a recipe and all it extends on one budget, and tabulate what each idea brought."""
    from rich.console import Console
    from rich.table import Table

    from ..ladder import climb
    from ..report import table as report
    from ..report.plot import validation_curves
    from ..train.folder import RunFolder

    folder, rungs = climb(recipe, set or [], name=name, root=runs)
    if not rungs:
        return
    shown = Table(box=None, padding=(0, 2))
    for i, (title, _) in enumerate(report.COLUMNS.values()):
        shown.add_column(title, justify="right" if i else "left", header_style="bold")
    for row in report.cells(rungs):
        shown.add_row(*row)
    Console(highlight=False, markup=False).print(shown)
    files = report.write(folder, rungs)
    curves = {
        rung.recipe: [
            (r["tokens"], r["val_bpb"])
            for r in RunFolder(folder / rung.recipe).records()
            if "val_bpb" in r
        ]
        for rung in rungs
    }
    files.append(validation_curves(curves, folder / "ladder.svg"))
    print("Written: " + ", ".join(map(str, files)))
