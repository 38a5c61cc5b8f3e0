"""`mlxt train`."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.paths import command_line
from .modes import listed
from .options import (
    BatchSize,
    DataPath,
    LearningRate,
    Name,
    Recipe,
    Resume,
    Runs,
    Seed,
    Seeds,
    Sets,
    Steps,
    check_free,
    seed_list,
    spelled,
)
from .preparing import watch

if TYPE_CHECKING:
    from ..verbs.train import Result


def train(
    recipe: Recipe,
    data: DataPath = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    set: Sets = None,
    name: Name = None,
    resume: Resume = None,
    seeds: Seeds = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Prepare the data, print the memory plan and run one step, without making a run.",
        ),
    ] = False,
    supervise: Annotated[
        bool,
        typer.Option(
            "--supervise",
            help="If the run runs out of memory, resume it from its last checkpoint with half the "
            "microbatch; the batch size stays the same.",
        ),
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe, for instance: mlxt train recipes/mistral_tiny.toml"""
    from ..assembly.recipe import load_recipe
    from ..verbs.train import rehearse
    from ..verbs.train import train as run

    sets = spelled(
        set,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        data=data,
    )
    modes = {"--seeds": seeds is not None, "--supervise": supervise, "--dry-run": dry_run}
    if len(chosen := [flag for flag, given in modes.items() if given]) > 1:
        raise typer.BadParameter(f"{listed(chosen)} don't go together: give one of them.")
    sets = with_evaluations(recipe, sets)
    if seeds is not None:
        check_free(sets, {"train.seed": "--seeds"})
        _train_seeds(recipe, sets, seed_list(seeds), name, resume, runs)
        return
    if supervise:
        _supervise(recipe, tuple(sets), name, resume, str(runs))
    loaded = load_recipe(recipe, sets)
    with watch() as screen:
        if dry_run:
            rehearse(loaded, say=screen.say, progress=screen)
            return
        result = run(loaded, name=name, resume=resume, root=runs, say=screen.say, progress=screen)
    end(result, recipe, sets)


def with_evaluations(recipe: str, sets: list[str]) -> list[str]:
    """Have a run that the options shortened evaluate and report at least four times.

    One evaluation, at the end, makes no curve and can't choose a best checkpoint. Intervals that
    the options give are kept.
    """
    from ..assembly.recipe import load_recipe

    if any(s.partition("=")[0].strip() == "eval.every" for s in sets):
        return sets
    config = load_recipe(recipe, sets)
    shorter = config.train.steps < load_recipe(recipe).train.steps
    every = max(1, config.train.steps // 4)
    if not shorter or config.eval.every <= every:
        return sets
    steps = "step" if every == 1 else f"{every} steps"
    print(f"Evaluating every {steps} instead of {config.eval.every}, since the run is short.")
    sets = [*sets, f"eval.every={every}"]
    if config.log.every <= every or any(s.partition("=")[0].strip() == "log.every" for s in sets):
        return sets
    return [*sets, f"log.every={every}"]


def _train_seeds(
    recipe: str, sets: list[str], seeds: list[int], name: str | None, resume: str | None, runs: Path
) -> None:
    """Train the recipe once per seed, and print the mean of its metric with an interval."""
    from ..assembly.recipe import load_recipe
    from ..verbs.compare import summary
    from ..verbs.rungs import with_seed
    from ..verbs.train import train as run

    if resume not in (None, "auto"):
        raise typer.BadParameter("--seeds has several runs: only --resume auto can continue them.")
    loaded, folders = load_recipe(recipe, sets), []
    assert loaded.resolved is not None
    for seed in seeds:
        run_name = f"{name or loaded.resolved.name}-seed{seed}"
        with watch() as screen:
            result = run(
                with_seed(loaded, seed), name=run_name, resume=resume, root=runs, say=screen.say,
                progress=screen,
            )  # fmt: skip
        folders.append(result.folder)
        if result.reason.startswith(STOPPED_BY):
            end(result, recipe, sets)
    print(summary(folders))


def end(result: "Result", recipe: str, sets: list[str]) -> None:
    """Print the report's path and the next command; exit with a signal's code after one."""
    from ..assembly.recipe import load_recipe
    from ..report.runs import written

    folder, reason = result.folder, result.reason
    stopped = reason.startswith(STOPPED_BY)
    if result.is_main:
        print(written(folder))
        if stopped:
            argv = ["train", recipe, "--resume", str(folder.path)]
            command = command_line(*argv, *(arg for s in sets for arg in ("--set", s)))
        elif load_recipe(folder.recipe).model.generates:
            command = f'{command_line("generate", "--run", folder.path)} --prompt "..."'
        else:
            command = command_line("eval", folder.path)
        print(f"Continue with: {command}")
    if stopped:
        raise typer.Exit(128 + signal.Signals[reason.removeprefix(STOPPED_BY)])


def _supervise(*command: Any) -> None:
    """Run training under the supervisor; its messages are interleaved with the run's output."""
    from ..verbs.supervise import Command, supervise

    raise typer.Exit(supervise(Command(*command), lambda text: print(text, flush=True)))


STOPPED_BY = "stopped by "
"""Beginning of the reason of a run that a signal ended; the signal's name follows."""
