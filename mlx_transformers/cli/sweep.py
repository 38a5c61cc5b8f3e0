"""`mlxt sweep`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .completion import set_keys
from .failures import INTERRUPTED
from .options import DataPath, Recipe, Runs, Sets, Steps, check_free, seed_list, spelled
from .preparing import watch
from .terminal import print_table

Over = Annotated[
    list[str],
    typer.Option(
        help="A key and its values, as in optim.learning_rate=1e-3,3e-3; repeatable. In a random "
        "search also a range: optim.learning_rate=1e-4..1e-2.",
        metavar="KEY=V,V",
        show_default=False,
        autocompletion=set_keys,
    ),
]

Seeds = Annotated[
    str | None,
    typer.Option(
        help="Runs of every point: a number, or a list of values of train.seed, as in 1,2,5.",
        metavar="N",
        show_default="one, with the recipe's seed",
    ),
]
Search = Annotated[
    Literal["grid", "random", "halving"],
    typer.Option(help="All points, some at random, or the best half of ever longer rounds."),
]
Samples = Annotated[
    int | None,
    typer.Option(min=1, help="Points of a random search.", metavar="N", show_default=False),
]
Keep = Annotated[
    int | None,
    typer.Option(min=2, help="Halving keeps one point in so many.", metavar="N", show_default="2"),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        min=1, help="Rounds of halving; the last has all steps.", metavar="N", show_default="3"
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        help="The sweep's folder below runs/.", metavar="NAME", show_default="sweep-RECIPE"
    ),
]


def sweep(
    recipe: Recipe,
    over: Over,
    set: Sets = None,
    steps: Steps = None,
    data: DataPath = None,
    seeds: Seeds = None,
    search: Search = "grid",
    samples: Samples = None,
    keep: Keep = None,
    rounds: Rounds = None,
    name: Name = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe at every setting of some keys, with seeds, and compare the results.

    Stopped, the same command continues the sweep.
    """
    from ..core.errors import RunError
    from ..verbs.sweep import Settings
    from ..verbs.sweep import sweep as measure

    if search != "halving" and (keep, rounds) != (None, None):
        raise typer.BadParameter("--keep and --rounds go with --search halving alone.")
    sets = spelled(set, steps=steps, data=data)
    chosen = {text.partition("=")[0].strip(): "--over" for text in over}
    check_free(sets, chosen | ({"train.seed": "--seeds"} if seeds else {}))
    with watch() as screen:
        folder, result = measure(
            recipe,
            over,
            sets,
            seeds=_seeds(seeds),
            settings=Settings(search, samples, keep or 2, rounds or 3),
            name=name,
            root=runs,
            say=screen.say,
            progress=screen,
        )
    if result is None:
        raise typer.Exit(INTERRUPTED)
    titles = result.titles()
    print_table(titles, result.rows(), right=range(len(titles) - 2, len(titles)))
    print(result.verdict())
    files = result.write(folder)
    try:
        files.append(result.plot(folder / "sweep.svg"))
    except RunError as error:
        print(f"Without the plot: {error}")
    print("Written: " + ", ".join(map(str, files)))


def _seeds(text: str | None) -> list[int]:
    """Parse a number of seeds, or a list of them."""
    if text is not None and text.isdecimal():
        if int(text) < 1:
            raise typer.BadParameter("A sweep needs at least one seed.")
        return list(range(1, int(text) + 1))
    return seed_list(text)
