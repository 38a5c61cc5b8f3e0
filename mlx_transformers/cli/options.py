"""Arguments that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[
    str,
    typer.Argument(
        help="A recipe: a TOML file, or its name in recipes/.", metavar="RECIPE", show_default=False
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key of the recipe, as in --set train.steps=200; repeatable.",
        show_default=False,
    ),
]
Steps = Annotated[int | None, typer.Option(help="Same as --set train.steps=N.", metavar="N")]
BatchSize = Annotated[
    int | None, typer.Option(help="Same as --set train.batch_size=N.", metavar="N")
]
LearningRate = Annotated[
    float | None, typer.Option(help="Same as --set optim.learning_rate=X.", metavar="X")
]
Seed = Annotated[int | None, typer.Option(help="Same as --set train.seed=N.", metavar="N")]
Name = Annotated[
    str | None,
    typer.Option(
        help="The new run's name below runs/.",
        metavar="NAME",
        show_default="the recipe's, with a number if that is taken",
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        help="'auto' to continue the run of that name, or a run's folder.",
        metavar="auto|PATH",
        show_default=False,
    ),
]
Runs = Annotated[Path, typer.Option(help="The folder of runs.", metavar="FOLDER")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def spelled(sets: list[str] | None, **short: float | None) -> list[str]:
    """What --set was given, and the options that only spell it shorter."""
    from ..recipe.overrides import alias

    given = [alias(key, value) for key, value in short.items() if value is not None]
    return [*(sets or []), *given]
