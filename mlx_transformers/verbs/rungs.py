"""Variants of a loaded recipe: with other tables, another seed, another value of a key."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..assembly.recipe import Recipe
from ..recipe.merge import merge
from ..recipe.overrides import parse_sets
from ..recipe.validate import typed


@dataclass(frozen=True)
class Step:
    """A recipe of the ladder, on the ladder's data and budget."""

    name: str
    recipe: Recipe


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
    shown = re.sub(r"[^\w.+-]", "_", value)
    name = f"{step.name}-{key.rpartition('.')[2]}-{shown}"
    return Step(name, with_tables(step.recipe, changed))


def seeded(step: Step, seeds: Sequence[int]) -> list[tuple[int, Step]]:
    """The runs of a rung with their seeds; without seeds one with the recipe's own."""
    if not seeds:
        return [(step.recipe.train.seed, step)]
    return [(seed, Step(f"{step.name}-seed{seed}", with_seed(step.recipe, seed))) for seed in seeds]
