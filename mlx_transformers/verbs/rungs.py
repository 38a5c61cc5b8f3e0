"""Variants of a loaded recipe: with other tables, another seed, another value of a key."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..assembly.recipe import Recipe
from ..core.errors import RecipeError, RunError
from ..core.paths import plain_name
from ..recipe.merge import merge
from ..recipe.overrides import parse_sets
from ..recipe.validate import typed


@dataclass(frozen=True)
class Step:
    """A recipe of the ladder, on the ladder's data and budget."""

    name: str
    recipe: Recipe


def study_folder(root: Path, name: str, what: str, file: str) -> Path:
    """Return the folder of the runs of `what`, such as "a sweep", which writes `file` at its end.

    Raises:
        RunError: the name is none of a folder, or the folder holds files that others wrote, over
            which tables would be written. Hidden files, such as Finder's, are passed over.
    """
    folder = root / plain_name(name, what, RunError)
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [path.name for path in paths if path.is_file() and not path.name.startswith(".")]
    if files and file not in files:
        kind = what.partition(" ")[2]
        raise RunError(
            f"{folder} holds {files[0]}, which no {kind} wrote. Give the {kind} another --name."
        )
    return folder


def tables(recipe: Recipe) -> dict[str, Any]:
    """The merged tables of a loaded recipe."""
    assert recipe.resolved is not None
    return recipe.resolved.data


def with_tables(recipe: Recipe, data: dict[str, Any]) -> Recipe:
    """Copy a loaded recipe with other merged tables.

    Raises:
        RecipeError: they are no recipe.
    """
    assert recipe.resolved is not None
    resolved = replace(recipe.resolved, data=data)
    out = typed(Recipe, resolved)
    out._resolved = resolved
    return out


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Copy a loaded recipe with another `train.seed`."""
    data = copy.deepcopy(tables(recipe))
    data["train"]["seed"] = seed
    return with_tables(recipe, data)


def with_value(step: Step, key: str, value: str) -> Step:
    """Copy a rung with another value of a key, which its name then tells.

    Args:
        step: the rung.
        key: the key's path, such as "optim.learning_rate".
        value: its value as --set spells it.

    Raises:
        RecipeError: the recipe has no such key, or it can't have this value.
    """
    changed = merge(copy.deepcopy(tables(step.recipe)), parse_sets([f"{key}={value}"]))
    suffix = re.sub(r"[^\w.+-]", "_", value)
    name = f"{step.name}-{key.rpartition('.')[2]}-{suffix}"
    return Step(name, with_tables(step.recipe, changed))


def seeded(step: Step, seeds: Sequence[int]) -> list[tuple[int, Step]]:
    """The runs of a rung with their seeds; without seeds one with the recipe's own."""
    if not seeds:
        return [(step.recipe.train.seed, step)]
    return [(seed, Step(f"{step.name}-seed{seed}", with_seed(step.recipe, seed))) for seed in seeds]


def with_width(step: Step, dim: int) -> Step:
    """Copy a rung with another model width: hidden layers and heads scale with it.

    Widths of hidden layers keep their ratio to `model.dim`, rounded to a multiple of 8; heads keep
    their width, so that there are more or fewer of them.

    Raises:
        RecipeError: the model has no such width.
    """
    data = copy.deepcopy(tables(step.recipe))
    model = data["model"]
    old = model.get("dim")
    if not isinstance(old, int):
        raise RecipeError(f"A model of kind '{model.get('kind')}' has no model.dim to scale.")
    model["dim"] = dim
    _scale(model, dim / old)
    return Step(f"{step.name}-dim-{dim}", with_tables(step.recipe, data))


def _scale(table: dict[str, Any], ratio: float) -> None:
    """Scale the hidden widths and the numbers of heads in a table and those inside it."""
    for key, value in table.items():
        if isinstance(value, dict):
            _scale(value, ratio)
        elif key == "hidden_dim":
            table[key] = max(8, round(value * ratio / 8) * 8)
        elif key in ("n_heads", "n_kv_heads"):
            table[key] = max(1, round(value * ratio))
