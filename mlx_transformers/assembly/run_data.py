"""The recipe and the data of a saved run, wherever their files are now."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import DataError, Notice, RecipeError, RunError
from ..core.parse import read_table
from ..data.inspect import prepared_sets
from ..data.prepare import Progress, prepare
from ..data.prepared import Prepared
from ..data.tokenizers.saved import Saved
from ..runs.checkpoint import STATE
from ..runs.folder import RunFolder, find_checkpoint
from .recipe import Recipe, load_recipe

MOVED = (
    "If it was moved, say where it is now: --set data.path=FILE (or data.valid_path, "
    "data.tokenizer.path)."
)


def run_recipe(folder: RunFolder, set: Sequence[str] = ()) -> Recipe:
    """Load the recipe of a run, with its tokenizer wherever that is now.

    Args:
        folder: the run, which may have been moved or renamed.
        set: "path=value" strings, as for `load_recipe`.

    Raises:
        RecipeError: as `load_recipe`.
    """
    return with_own_tokenizer(load_recipe(folder.recipe, set), folder)


def with_own_tokenizer(recipe: Recipe, folder: RunFolder) -> Recipe:
    """Return the recipe with the tokenizer that the run keeps, if the file of the one that the
    recipe names doesn't exist any more."""
    file = recipe.data.tokenizer.file()
    if file is None or file.exists() or not folder.tokenizer.is_dir():
        return recipe
    data = recipe.data.model_copy(update={"tokenizer": Saved(path=str(folder.tokenizer))})
    return recipe.model_copy(update={"data": data})


def frozen_runs(recipe: Recipe) -> dict[str, str]:
    """The runs whose models the objective, the source and the curriculum read, by the recipe's
    key."""
    runs = {f"objective.{role}": run for role, run in recipe.objective.frozen().items()}
    runs |= {f"source.{role}": run for role, run in recipe.source.frozen().items()}
    if recipe.curriculum is not None and recipe.curriculum.reference is not None:
        runs["curriculum.reference"] = recipe.curriculum.reference
    return runs


def check_frozen(recipe: Recipe) -> None:
    """Find the runs whose models are read, before anything is prepared.

    Raises:
        RecipeError: one isn't there.
    """
    for key, run in frozen_runs(recipe).items():
        try:
            find_checkpoint(run)
        except RunError as error:
            moved = f"If it was renamed or moved, say where it is now: --set {key}=RUN."
            raise RecipeError(f"{key} = '{run}': {error} {moved}") from None


def run_data(recipe: Recipe, fingerprint: str | None, progress: Progress | None = None) -> Prepared:
    """Prepare the data of a run; if its text is gone, take its prepared set from the cache.

    Args:
        recipe: the recipe of the run.
        fingerprint: that of the data that the run was trained on; None for a new or imported run.
        progress: called while the data is prepared.

    Raises:
        RecipeError: the objective reads a run that isn't there.
        DataError: neither the text nor a prepared set with this fingerprint is there.
    """
    check_frozen(recipe)
    try:
        return prepare(recipe.data, progress=progress)
    except DataError as error:
        if fingerprint is None:
            raise
        if (prepared := find_prepared(fingerprint)) is None:
            raise DataError(f"{error} {MOVED}") from error
        notice = f"{error} Its prepared set {prepared.folder} has the same fingerprint and is used."
        warnings.warn(notice, Notice, stacklevel=2)
        return prepared


def find_prepared(fingerprint: str) -> Prepared | None:
    """Return a prepared set in the cache with this fingerprint, or None."""
    for prepared in prepared_sets():
        if prepared.fingerprint == fingerprint:
            return prepared
    return None


def trained_on(checkpoint: Path) -> str | None:
    """Return the fingerprint of the data that a checkpoint was trained on; None if the checkpoint
    is imported or damaged."""
    try:
        fingerprint = read_table(checkpoint / STATE).get("data")
    except (OSError, ValueError):
        return None
    return fingerprint if isinstance(fingerprint, str) else None
