"""Blocks of an additive bias that is given by distance (`core/score_bias.py`)."""

from collections.abc import Mapping

import mlx.core as mx

from .device import upcast

DISTANCE_AXES = {"by_distance": 2, "keys": 1}
"""The axis of distances of the parts that have one."""


def parts_of_block(
    parts: Mapping[str, mx.array], q0: int, q1: int, k0: int, k1: int, length: int
) -> dict[str, tuple[mx.array, tuple[slice, ...]]]:
    """The slices of the parts that queries `[q0, q1)` and keys `[k0, k1)` of a row of `length`
    tokens need, and where they are in the parts."""
    distances = slice(k0 - q1 + length, k1 - q0 + length - 1)
    slices = {}
    for name, part in parts.items():
        axis = DISTANCE_AXES.get(name, 3)
        along = distances if name in DISTANCE_AXES else slice(k0, k1)
        where = tuple(along if i == axis else slice(None) for i in range(part.ndim))
        slices[name] = (part[where], where)
    return slices


def bias_block(q: mx.array, parts: Mapping[str, mx.array], n_keys: int) -> mx.array:
    """The bias `[1 or B, H, n, m]` of a block.

    Args:
        q: scaled queries `[B, H, n, K]`.
        parts: slices for the block, as `parts_of_block` takes them.
        n_keys: keys m of the block.
    """
    n, terms = q.shape[2], []
    rows = []
    if "keys" in parts:
        rows.append(q @ upcast(parts["keys"]).swapaxes(-1, -2))
    if "by_distance" in parts:
        rows.append(upcast(parts["by_distance"])[:, :, None])
    if rows:
        total = sum(rows[1:], rows[0])
        total = mx.broadcast_to(total, (*total.shape[:2], n, total.shape[3]))
        terms.append(skewed(total, n_keys))
    if "by_key" in parts:
        terms.append(upcast(parts["by_key"]))
    return sum(terms[1:], terms[0])


def skewed(x: mx.array, m: int) -> mx.array:
    """Row i of `[..., n, n + m - 1]` from its column `n - 1 - i` on, `[..., n, m]`: what is given
    by distance, as pairs."""
    *lead, n, width = x.shape
    flat = mx.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)]).reshape(*lead, n * (width + 1))
    return flat[..., n - 1 : n - 1 + n * width].reshape(*lead, n, width)[..., :m]
