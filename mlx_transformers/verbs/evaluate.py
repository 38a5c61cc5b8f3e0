"""Opens a saved run and measures its validation loss: `mlxt eval` without a task."""

import math
from collections.abc import Sequence
from pathlib import Path

from ..assembly.build import Built, build
from ..assembly.recipe import load_recipe
from ..assembly.run_data import frozen_runs, run_data, run_recipe, trained_on
from ..assembly.streams import held_out_batches, mixed_batches
from ..core.errors import RunError
from ..data.prepare import Progress as Preparing
from ..recipe.overrides import set_paths
from ..runs.checkpoint import step_of
from ..runs.folder import RUNS, find_checkpoint
from .resume import PLACES, restore

BATCH_SIZE = "eval.batch_size"
READ = (*PLACES, BATCH_SIZE)
"""Keys that change how any run is measured, beside those that name the runs that it reads."""


def evaluate(
    run: str | Path | None = None,
    batches: int | None = None,
    root: Path = RUNS,
    progress: Preparing | None = None,
    set: Sequence[str] = (),
) -> tuple[Path, dict[str, float]]:
    """Measure a run on its validation split; returns the checkpoint and its metrics.

    Args:
        run: a run's name or folder, whose best checkpoint is measured, or a checkpoint; None is
            the newest run.
        batches: number of batches, spread evenly over the split; None takes the whole split.
        root: the folder of runs.
        progress: called while the data is prepared.
        set: "path=value" strings that say where the data is now, as "data.path=FILE".

    Raises:
        MlxtError: there is no such run, its data is no longer available, or its loss is not finite.
    """
    path, built = open_run(run, root, progress, set)
    values = built.evaluator(held_out_batches(built, batches))
    values |= built.evaluator.losses(mixed_batches(built, batches))
    if not math.isfinite(values["val_loss"]):
        raise RunError(
            f"The validation loss of {path} is {values['val_loss']}: its training diverged. "
            "Measure an earlier checkpoint of the run, or train again with a lower learning rate."
        )
    return path, values


def open_run(
    run: str | Path | None = None,
    root: Path = RUNS,
    progress: Preparing | None = None,
    set: Sequence[str] = (),
) -> tuple[Path, Built]:
    """Build a saved run and restore its best checkpoint, or the one named; returns both.

    Raises:
        MlxtError: as `evaluate`.
    """
    folder, path = find_checkpoint(run, root)
    runs = frozen_runs(load_recipe(folder.recipe))
    if strange := [key for key in set_paths(set) if key not in (*READ, *runs)]:
        raise RunError(
            f"--set {strange[0]}: a run is measured with the recipe that it was trained with. Only "
            f"{', '.join([*PLACES, *runs])} and {BATCH_SIZE} can be set here."
        )
    recipe = run_recipe(folder, set)
    data = run_data(recipe, trained_on(path), progress)
    built = build(recipe.stage(step_of(path), saved=True), data, trains=False)
    restore(built, path, trains=False)
    return path, built
