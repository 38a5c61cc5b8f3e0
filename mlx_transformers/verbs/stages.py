"""Grows the model of a run between two stages, with its optimizer state (`[[grow]]`)."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..assembly.build import Built, build
from ..assembly.growth import CARRIED, Grow
from ..assembly.recipe import Recipe
from ..core.tree import Tree
from ..trainer.source import Feed
from .grow import Growth, Mapping, grown


@dataclass
class Stage:
    """The parts of a run that train now: a growth replaces them, and so frees the smaller model."""

    built: Built
    feed: Feed


def next_growth(recipe: Recipe, step: int) -> Grow | None:
    """Return the first stage that begins after a step; None in the last stage."""
    return next((stage for stage in recipe.grow if stage.at > step), None)


def growth_at(recipe: Recipe, step: int) -> Grow | None:
    """Return the stage that begins at a step, if there is one."""
    return next((stage for stage in recipe.grow if stage.at == step), None)


def grow_built(built: Built, recipe: Recipe, stage: Grow) -> Built:
    """Build the next stage of a run from what the stage before has learned.

    `recipe` is the run's own, whose "auto" values are chosen anew, as a resume does. Weights,
    moments of the optimizer and an EMA come from the smaller model; a moment of a copied feature's
    gradient is divided as that gradient is. All of it depends on the recipe alone.
    """
    large = build(recipe.stage(stage.at), built.data)
    growth = Growth(stage.n_layers, stage.hidden_dim, stage.method)
    mapping = Mapping(built.model, growth)
    powers = CARRIED[built.recipe.optim.kind]
    old, new = built.step.train_state.trees(), large.step.train_state.trees()
    trees: dict[str, Tree] = {"model": grown(built.model, large.model, growth)}
    for name in new:
        if name != "model":
            trees[name] = _carried(old[name], new[name], mapping, powers)
    mx.eval(trees)
    large.step.train_state.restore(trees)
    large.keep_streams(built.step.parallel.streams)
    return large


def _carried(old: Tree, new: Tree, mapping: Mapping, powers: dict[str, int]) -> Any:
    """Return the state of the larger model's optimizer, or its average."""
    old_leaves = dict(tree_flatten(old))
    leaves = []
    for path, like in tree_flatten(new):
        value = mapping.value(path, old_leaves, powers.get(path.rpartition(".")[2], 0))
        assert value.shape == like.shape, path
        leaves.append((path, value.astype(like.dtype)))
    return tree_unflatten(leaves)
