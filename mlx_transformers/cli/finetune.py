"""`mlxt finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from .completion import recipe_names, run_names
from .options import (
    BatchSize,
    LearningRate,
    Name,
    Resume,
    Runs,
    Seed,
    Sets,
    Steps,
    spelled,
)
from .preparing import watch
from .train import end

Source = Annotated[
    str,
    typer.Argument(
        help="A run or one of its checkpoints; or a folder with config.json and safetensors; "
        "or a .gguf.",
        metavar="RUN|DIR",
        show_default=False,
        autocompletion=run_names,
    ),
]
RecipeOrNone = Annotated[
    str | None,
    typer.Argument(
        help="A recipe: a TOML file, or its name in recipes/. Without one, a recipe is written "
        "for --task and --data.",
        metavar="RECIPE",
        show_default=False,
        autocompletion=recipe_names,
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        help="Without a recipe, the task to train: classification, tagging, answers, embedding, "
        "masked, text, translation or summarization.",
        metavar="TASK",
        show_default="the source's task",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="The text: a file, a folder or a glob. Same as --set data.path=PATH.",
        metavar="PATH",
        show_default=False,
    ),
]
AcceptChanges = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="Take weights even if the recipe changes options of layers that have them.",
    ),
]
Replay = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Share of rows from the source's own training text, against forgetting; the loss on "
        "that text is reported too.",
        metavar="SHARE",
        show_default=False,
    ),
]


def finetune(
    source: Source,
    recipe: RecipeOrNone = None,
    task: Task = None,
    data: Data = None,
    accept_changes: AcceptChanges = False,
    replay: Replay = None,
    set: Sets = None,
    name: Name = None,
    resume: Resume = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe from the weights of another run or of a published model.

    Takes all weights whose names and shapes agree, and the tokenizer. Prints which weights are new
    (such as a head) and which source weights are unused.
    """
    from ..verbs.finetune import finetune as run

    sets = spelled(
        set,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        data=None if recipe is None else data,
    )
    with watch() as screen:
        result = run(
            source,
            recipe,
            task=task,
            data=data if recipe is None else None,
            accept_changes=accept_changes,
            replay=replay,
            set=sets,
            name=name,
            resume=resume,
            root=runs,
            say=screen.say,
            progress=screen,
        )
    end(result, str(result.folder.recipe), [])
