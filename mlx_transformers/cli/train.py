"""`mlxt train`."""

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from ..verbs.train import Result


def train(
    recipe: Recipe,
    set: Sets = None,
    name: Name = None,
    resume: Resume = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    supervise: Annotated[
        bool,
        typer.Option(
            "--supervise",
            help="If the run runs out of memory, resume it from its last checkpoint with half the "
            "microbatch; a step still learns from as many rows.",
        ),
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe, for instance: mlxt train recipes/mistral_tiny.toml"""
    from ..assembly.recipe import load_recipe
    from ..verbs.train import train as run

    sets = spelled(set, steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    if supervise:
        _supervise(recipe, tuple(sets), name, resume, str(runs))
    loaded = load_recipe(recipe, sets)
    with watch() as seen:
        result = run(loaded, name=name, resume=resume, root=runs, say=seen.say, progress=seen)
    end(result, recipe, sets)


def end(result: "Result", recipe: str, sets: list[str]) -> None:
    """Print the report's path and the next command; exit with a signal's code after one."""
    from ..assembly.recipe import load_recipe
    from ..report.runs import written

    folder, reason = result.folder, result.reason
    stopped = reason.startswith(STOPPED_BY)
    if result.is_main:
        print(written(folder))
        words = ["train", recipe, "--resume", str(folder.path)]
        words += [word for each in sets for word in ("--set", each)]
        generates = load_recipe(folder.recipe).model.generates
        writes = f'generate --run {folder.path} --prompt "..."'
        measured = f"eval {folder.path}"
        after = writes if generates else measured
        print(f"Continue with: mlxt {shlex.join(words) if stopped else after}")
    if stopped:
        raise typer.Exit(128 + signal.Signals[reason.removeprefix(STOPPED_BY)])


def _supervise(*command: Any) -> None:
    """Run training under the supervisor; its messages are interleaved with the run's output."""
    from ..verbs.supervise import Command, supervise

    raise typer.Exit(supervise(Command(*command), lambda text: print(text, flush=True)))


STOPPED_BY = "stopped by "
"""Beginning of the reason of a run that a signal ended; the signal's name follows."""
