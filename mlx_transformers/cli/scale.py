"""`mlxt scale`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from .failures import INTERRUPTED
from .options import Recipe, Runs, Sets, check_free
from .preparing import watch
from .terminal import print_table

Widths = Annotated[
    str,
    typer.Option(
        help="Values of model.dim, as in 64,96,128; hidden layers and heads scale with it.",
        metavar="N,N",
        show_default=False,
    ),
]
Steps = Annotated[
    str,
    typer.Option(help="Values of train.steps.", metavar="N,N", show_default=False),
]
Check = Annotated[
    str | None,
    typer.Option(
        help="A width and steps that are predicted first and trained then, as in 192x2000.",
        metavar="WIDTHxSTEPS",
        show_default=False,
    ),
]
Flops = Annotated[
    list[float] | None,
    typer.Option(
        min=1.0,
        help="A budget whose best size is computed; repeatable.",
        show_default="10 and 100 times the grid's largest run",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        help="The grid's folder below runs/.", metavar="NAME", show_default="scale-RECIPE"
    ),
]


def scale(
    recipe: Recipe,
    widths: Widths,
    steps: Steps,
    check: Check = None,
    flops: Flops = None,
    set: Sets = None,
    name: Name = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train a grid of sizes and lengths, fit a scaling law, and predict from it.

    Stopped, the same command continues the grid.
    """
    from ..core.errors import RunError
    from ..report.scaling import TITLES
    from ..verbs.scale import Grid
    from ..verbs.scale import scale as measure

    held_out = None if check is None else _width_and_steps(check)
    check_free(set, {"model.dim": "--widths", "train.steps": "--steps"})
    grid = Grid(_numbers(widths, "--widths"), _numbers(steps, "--steps"), held_out)
    with watch() as screen:
        folder, law = measure(
            recipe,
            grid,
            set or [],
            flops=flops or (),
            name=name,
            root=runs,
            say=screen.say,
            progress=screen,
        )
    if law is None:
        raise typer.Exit(INTERRUPTED)
    print_table(TITLES, law.rows(), right=(1, 2, 3, 4))
    for sentence in law.sentences():
        print(sentence)
    files = law.write(folder)
    try:
        files.append(law.plot(folder / "scale.svg"))
    except RunError as error:
        print(f"Without the plot: {error}")
    print("Written: " + ", ".join(map(str, files)))


def _width_and_steps(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"\s*0*([1-9]\d*)\s*x\s*0*([1-9]\d*)\s*", text, re.ASCII)
    if found is None:
        raise typer.BadParameter(f"--check {text}: write it as WIDTHxSTEPS, as in 192x2000.")
    return int(found[1]), int(found[2])


def _numbers(text: str, option: str) -> list[int]:
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise typer.BadParameter(f"{option} {text}: give whole numbers, as in 64,96,128.")
    return list(dict.fromkeys(map(int, numbers)))
