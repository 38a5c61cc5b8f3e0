"""Arguments that several verbs share."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from .completion import recipe_names, resumable, run_names, set_keys, tool_keys

Recipe = Annotated[
    str,
    typer.Argument(
        help="A recipe: a TOML file, or its name in recipes/. List: mlxt recipes",
        metavar="RECIPE",
        show_default=False,
        autocompletion=recipe_names,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key of the recipe, as in --set train.steps=200; repeatable.",
        show_default=False,
        autocompletion=set_keys,
    ),
]
ToolSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the recipe's [tools], as in --set tools.calculator=true; repeatable.",
        show_default=False,
        autocompletion=tool_keys,
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        "--chat-template",
        help="The chat template: a Jinja file, chatml, chatml_tools, or tags.",
        metavar="FILE|NAME",
        show_default="the run's own",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", "--iters", help="Same as --set train.steps=N.", metavar="N"),
]
DataPath = Annotated[
    str | None,
    typer.Option(
        "--data", help="Same as --set data.path=FILE: a text file, or a folder.", metavar="FILE"
    ),
]
BatchSize = Annotated[
    int | None, typer.Option(help="Same as --set train.batch_size=N.", metavar="N")
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate", "--lr", help="Same as --set optim.learning_rate=X.", metavar="X"
    ),
]
Seed = Annotated[int | None, typer.Option(help="Same as --set train.seed=N.", metavar="N")]
Seeds = Annotated[
    str | None,
    typer.Option(
        help="Train one run for each of these seeds, as in 1,2,3.",
        metavar="N,N,...",
        show_default="one run with the recipe's seed",
    ),
]
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
        autocompletion=resumable,
    ),
]


def user_path(text: str) -> Path:
    """Convert an option to a path, expanding `~` where the shell didn't."""
    from ..core.errors import MlxtError
    from ..core.paths import expanded

    try:
        return expanded(text)
    except MlxtError as error:
        raise typer.BadParameter(str(error)) from None


Run = Annotated[
    str | None,
    typer.Argument(
        help="A run's name or folder, or one of its checkpoints.",
        metavar="RUN",
        show_default="the newest run in ./runs",
        autocompletion=run_names,
    ),
]
Runs = Annotated[Path, typer.Option(parser=user_path, help="The folder of runs.", metavar="FOLDER")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def seed_list(text: str | None) -> list[int]:
    """Parse the value of --seeds; empty if it wasn't given."""
    numbers = [] if text is None else [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise typer.BadParameter(f"'{text}' is no list of seeds. Give whole numbers: 1,2,3.")
    seeds = [int(number) for number in numbers]
    if max(seeds, default=0) >= 2**31:
        raise typer.BadParameter(f"'{text}': a seed is at most {2**31 - 1:,}.")
    if len(seeds) != len(dict.fromkeys(seeds)):
        raise typer.BadParameter(f"'{text}' has a seed twice: its two runs would be the same.")
    return seeds


def spelled(sets: list[str] | None, **short: str | float | None) -> list[str]:
    """Join the values of --set with those of the options that are aliases of it."""
    from ..recipe.overrides import alias

    aliased = [alias(key, v, sys.argv) for key, v in short.items() if v is not None]
    return [*(sets or []), *aliased]


def check_free(sets: list[str] | None, options: Mapping[str, str]) -> None:
    """Refuse `--set` of a key that another option sets for each run.

    Args:
        sets: the values of --set and its aliases.
        options: the option that sets a key, by the key.

    Raises:
        RecipeError: one is set twice.
    """
    from ..core.errors import RecipeError
    from ..recipe.overrides import set_paths

    if taken := [key for key in set_paths(sets or []) if key in options]:
        key, option = taken[0], options[taken[0]]
        raise RecipeError(f"{option} sets {key} for each run, so it can't be set once for all.")


def note_unread(sets: list[str] | None, *, read: str = "", unread: tuple[str, ...] = ()) -> None:
    """Say which keys of `--set` have no effect on what a command does.

    Args:
        sets: the values of --set and its aliases.
        read: the beginning of all keys that have an effect.
        unread: keys, or beginnings of keys, that have none.
    """
    from ..recipe.overrides import set_paths

    for key in set_paths(sets or []):
        if not key.startswith(read) or key.startswith(unread):
            typer.echo(f"{key} has no effect on this command.", err=True)


UNMEASURED = ("train.steps", "eval.", "checkpoint.", "log.", "cost.")
"""Keys that have no effect on the speed of a step."""

ModelSource = Annotated[
    str,
    typer.Argument(
        help="A run or checkpoint, a folder with config.json, or a .gguf.",
        metavar="SRC",
        show_default=False,
        autocompletion=run_names,
    ),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        help="Text for calibration and for measuring the result: a built-in corpus, or a file.",
        metavar="CORPUS|FILE",
        show_default="the run's own data",
    ),
]
