"""`mlxt train`."""

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Name, Recipe, Resume, Runs, Sets
from .preparing import watch

if TYPE_CHECKING:
    from ..session import Result


def train(
    recipe: Recipe,
    set: Sets = None,
    name: Name = None,
    resume: Resume = None,
    steps: Annotated[
        int | None, typer.Option(help="Same as --set train.steps=N.", metavar="N")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Same as --set train.batch_size=N.", metavar="N")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Same as --set optim.learning_rate=X.", metavar="X")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Same as --set train.seed=N.", metavar="N")
    ] = None,
    supervise: Annotated[
        bool,
        typer.Option(
            "--supervise",
            help="Where memory ends the run, go on from its last checkpoint with half the rows at "
            "once; a step learns from as many.",
        ),
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe, for instance: mlxt train recipes/mistral_tiny.toml"""
    from ..assemble import load_recipe
    from ..recipe.overrides import alias
    from ..session import train as run

    short = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    given = [alias(key, value) for key, value in short.items() if value is not None]
    sets = [*(set or []), *given]
    if supervise:
        _supervise(recipe, tuple(sets), name, resume, str(runs))
    loaded = load_recipe(recipe, sets)
    with watch() as seen:
        result = run(loaded, name=name, resume=resume, root=runs, say=seen.say, progress=seen)
    end(result, recipe, sets)


def end(result: "Result", recipe: str, sets: list[str]) -> None:
    """Say where the report is and how to go on; a run that a signal stopped exits as it has it."""
    from ..assemble import load_recipe
    from ..report.runs import written

    folder, reason = result.folder, result.reason
    stopped = reason.startswith(STOPPED_BY)
    if result.leads:
        print(written(folder))
        words = ["train", recipe, "--resume", str(folder.path)]
        words += [word for each in sets for word in ("--set", each)]
        does = getattr(load_recipe(folder.recipe).model, "does", None)
        writes = f'generate --run {folder.path} --prompt "..."'
        measured = f"eval {folder.path}"
        after = measured if does in ("reads", "judges") else writes
        print(f"Continue with: mlxt {shlex.join(words) if stopped else after}")
    if stopped:
        raise typer.Exit(128 + signal.Signals[reason.removeprefix(STOPPED_BY)])


def _supervise(*command: Any) -> None:
    """Watch a process that trains; what is said of it stands between its own lines."""
    from ..supervise import Command, supervise

    raise typer.Exit(supervise(Command(*command), lambda text: print(text, flush=True)))


STOPPED_BY = "stopped by "
"""How the reason of a run that a signal ended begins; the signal's name follows."""
