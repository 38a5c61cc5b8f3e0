"""`mlxt finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Name, Recipe, Resume, Runs, Sets
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
    name: Name = None,
    resume: Resume = None,
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
