"""`mlxt finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    BatchSize,
    LearningRate,
    Name,
    Recipe,
    Resume,
    Runs,
    Seed,
    Sets,
    Steps,
    spelled,
)
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
    steps: Steps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe from weights: all whose names and shapes agree are taken.

    The run is a new one, and its tokenizer is the source's. What it learns anew (a head) and what
    of the source it has no place for is said.
    """
    from ..verbs.finetune import finetune as run

    sets = spelled(set, steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    with watch() as seen:
        result = run(
            source,
            recipe,
            set=sets,
            name=name,
            resume=resume,
            root=runs,
            say=seen.say,
            progress=seen,
        )
    end(result, str(result.folder.recipe), [])
