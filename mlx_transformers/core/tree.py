"""Small operations on trees of arrays: nested dicts and lists with arrays as leaves."""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map, tree_unflatten

Tree = Any
"""Nested dicts and lists with arrays as leaves."""
Arrays = Mapping[str, mx.array]
"""Arrays of a batch by name: `tokens [B, T]`, `source [B, S]`, `patches [B, P, ...]`, ..."""


def cast(tree: Tree, dtype: mx.Dtype) -> Tree:
    """Return the tree with floating-point arrays cast to `dtype`; integers stay."""

    def one(x: mx.array) -> mx.array:
        return x.astype(dtype) if mx.issubdtype(x.dtype, mx.floating) else x

    return tree_map(one, tree)


def size_bytes(tree: Tree) -> int:
    """Return the bytes of all arrays of the tree."""
    return sum(x.nbytes for _, x in tree_flatten(tree))


def select(finite: mx.array, new: Tree, old: Tree) -> Tree:
    """Return the leaves of `new` where `finite` (a bool scalar), else those of `old`.

    `old` may have more leaves; the result has the structure of `new`.
    """
    return tree_map(lambda n, o: mx.where(finite, n, o), new, old)


def snapshot(tree: Tree) -> Tree:
    """Return the same leaves in new containers, which later assignments do not reach."""
    return tree_map(lambda leaf: leaf, tree)


def assign(live: Tree, tree: Tree) -> None:
    """Put the leaves of `tree` into the containers of `live`, which keep their identity.

    A compiled function goes on with the containers that it captured, so they must not be replaced.

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


def under_masks(tree: Tree, masks: Mapping[str, mx.array]) -> Tree:
    """Return a tree of arrays, 0 where their mask is; arrays that `masks` doesn't name stay."""
    return tree_unflatten(
        [
            (name, array * masks[name].astype(array.dtype) if name in masks else array)
            for name, array in tree_flatten(tree)
        ]
    )
