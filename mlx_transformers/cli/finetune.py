"""`mlxt finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Recipe, Runs, Sets
from .preparing import watch
from .train import end


def finetune(
    source: Annotated[
        str,
        typer.Argument(
            help="A run or one of its checkpoints; or a folder with config.json and safetensors; "
            "or a .gguf.",
            metavar="RUN|DIR",
            show_default=False,
        ),
    ],
    recipe: Recipe,
    set: Sets = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="The new run's name below runs/.",
            metavar="NAME",
            show_default="the recipe's, with a number if that is taken",
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="'auto' to continue the run of that name, or a run's folder.",
            metavar="auto|PATH",
            show_default=False,
        ),
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe from weights: all whose names and shapes agree are taken.

    The run is a new one, and its tokenizer is the source's. What it learns anew (a head) and what
    of the source it has no place for is said.
    """
    from ..finetuning import finetune as run

    with watch() as seen:
        result = run(
            source,
            recipe,
            set=set or [],
            name=name,
            resume=resume,
            root=runs,
            say=seen.say,
            progress=seen,
        )
    end(result, str(result.folder.recipe), [])
