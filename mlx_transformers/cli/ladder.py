"""`mlxt ladder`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .completion import recipe_names, set_keys
from .failures import INTERRUPTED
from .options import DataPath, Runs, Seeds, Sets, Steps, check_free, seed_list, spelled
from .preparing import watch
from .terminal import print_table

if TYPE_CHECKING:
    from ..report.table import Rung


Rungs = Annotated[
    list[str],
    typer.Argument(
        help="The last recipe of a chain, or every rung of the ladder.",
        metavar="RECIPE",
        show_default=False,
        autocompletion=recipe_names,
    ),
]
First = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="The first rung of a chain.",
        metavar="RECIPE",
        show_default="where the last recipe's task begins",
        autocompletion=recipe_names,
    ),
]
Tune = Annotated[
    str | None,
    typer.Option(
        help="Train every rung at each of these values, as in "
        "optim.learning_rate=1e-3,3e-3, with the first seed; it takes the best.",
        metavar="KEY=V,V",
        show_default=False,
        autocompletion=set_keys,
    ),
]


def ladder(
    recipe: Rungs,
    set: Sets = None,
    steps: Steps = None,
    data: DataPath = None,
    first: First = None,
    seeds: Seeds = None,
    tune: Tune = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="The ladder's folder below runs/.", metavar="NAME", show_default="ladder-RECIPE"
        ),
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe and all it extends, or a list of recipes, on one budget, and compare them.

    Every rung takes [data] and the budget of [train] from the last recipe; --set applies to all.
    Stopped, the same command continues the ladder.
    """
    from ..report import table
    from ..verbs.ladder import climb

    rung_or_list = recipe[0] if len(recipe) == 1 else recipe
    sets = spelled(set, steps=steps, data=data)
    tuned = {tune.partition("=")[0].strip(): "--tune"} if tune else {}
    check_free(sets, tuned | ({"train.seed": "--seeds"} if seeds else {}))
    with watch() as screen:
        folder, rungs, complete = climb(
            rung_or_list,
            sets,
            first=first,
            name=name,
            seeds=seed_list(seeds),
            tune=tune,
            root=runs,
            say=screen.say,
            progress=screen,
        )
    if not rungs:
        raise typer.Exit(INTERRUPTED)
    titles = table.titles(rungs)
    print_table(titles, table.cells(rungs), right=range(1, len(titles)))
    for sentence in table.verdicts(rungs):
        print(sentence)
    files = [*table.write(folder, rungs), *_plot(folder, rungs), *_compared(folder, rungs)]
    print("Written: " + ", ".join(map(str, files)))
    if not complete:
        raise typer.Exit(INTERRUPTED)


def _compared(folder: Path, rungs: "list[Rung]") -> list[Path]:
    """Write the report of all runs on the same axes; several seeds make a mean with a band."""
    from ..core.errors import RunError
    from ..report.runs import report

    try:
        return [
            report(
                [folder / run for rung in rungs for run in rung.runs],
                folder / "report.html",
                rungs=rungs,
            )
        ]
    except RunError as error:
        print(f"Without a report: {error}")
        return []


def _plot(folder: Path, rungs: "list[Rung]") -> list[Path]:
    from ..core.errors import RunError
    from ..report.plot import validation_curves
    from ..runs.folder import RunFolder
    from ..trainer.metrics import metric_title

    metric = rungs[0].metric
    curves = {
        rung.recipe: [
            (r["tokens"], r[metric])
            for r in RunFolder(folder / rung.runs[0]).records()
            if r.get(metric) is not None
        ]
        for rung in rungs
    }
    try:
        return [validation_curves(curves, folder / "ladder.svg", metric_title(metric))]
    except RunError as error:
        print(f"Without the plot: {error}")
        return []
