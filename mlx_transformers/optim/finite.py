"""Skipping an update whose gradients are not finite, as a value and not as a branch."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim
from mlx.utils import tree_map

Tree = Any
"""Nested dicts and lists with arrays as leaves."""


def select(finite: mx.array, new: Tree, old: Tree) -> Tree:
    """The leaves of `new` where `finite` (a bool scalar), else those of `old`.

    `old` may have more leaves; the result has the structure of `new`.
    """
    return tree_map(lambda n, o: mx.where(finite, n, o), new, old)


def snapshot(tree: Tree) -> Tree:
    """The same leaves in new containers, which later assignments do not reach."""
    return tree_map(lambda leaf: leaf, tree)


def assign(live: Tree, tree: Tree) -> None:
    """Put the leaves of `tree` into the containers of `live`, which keep their identity.

    What a compiled function captured stays captured; replacing `optimizer.state` would not.

    Raises:
        KeyError, IndexError: `live` has no place for a leaf.
    """
    keys = live.keys() if isinstance(live, dict) else range(len(live))
    for key in tree.keys() if isinstance(tree, dict) else range(len(tree)):
        if key not in keys:
            raise KeyError(f"There is no place for '{key}' in the live tree.")
        if isinstance(live[key], (dict, list)):
            assign(live[key], tree[key])
        else:
            live[key] = tree[key]


def update_if(
    finite: mx.array, optimizer: mlx_optim.Optimizer, model: nn.Module, gradients: Tree
) -> None:
    """`optimizer.update(model, gradients)` where `finite`, else nothing at all.

    A skipped update leaves parameters, moments and `optimizer.step` as they were, so the
    schedule waits, and bias correction stays true. May be called inside `mx.compile`.
    """
    state = optimizer.state
    before, parameters = snapshot(state), model.trainable_parameters()
    updated = optimizer.apply_gradients(gradients, parameters)
    model.update(select(finite, updated, parameters))
    assign(state, select(finite, optimizer.state, before))
