"""Masks of pruning, true where a weight is kept: by magnitude, n:m, and Wanda.

Ties go to the earlier weight, which is kept.
"""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np


def pruned_count(amount: float, size: int) -> int:
    """Return how many of `size` go: a share from 0 to 1 (float), rounded, or a count (int)."""
    return amount if isinstance(amount, int) else round(amount * size)


def keep_highest(scores: mx.array, n_pruned: int) -> mx.array:
    """Return a mask without the `n_pruned` lowest scores of each row (the last axis)."""
    order = mx.argsort(mx.argsort(-scores, axis=-1), axis=-1)
    return order < scores.shape[-1] - n_pruned


def magnitude_mask(weight: mx.array, amount: float, within: mx.array | None = None) -> mx.array:
    """Return a mask without the smallest weights of a tensor.

    Args:
        weight: the tensor.
        amount: the share, or the count, that goes.
        within: an earlier mask; the amount is then of what it keeps.
    """
    flat = mx.abs(weight).reshape(-1)
    if within is None:
        return keep_highest(flat, pruned_count(amount, flat.size)).reshape(weight.shape)
    candidates = within.reshape(-1)
    n_kept = int(np.count_nonzero(np.array(candidates)))
    n_removed = flat.size - n_kept + pruned_count(amount, n_kept)
    return keep_highest(mx.where(candidates, flat, -1), n_removed).reshape(weight.shape)


def global_masks(
    weights: Sequence[mx.array], amount: float, within: Sequence[mx.array] | None = None
) -> list[mx.array]:
    """Return masks of several tensors without the smallest weights of all of them together."""
    flat = mx.concatenate([weight.reshape(-1) for weight in weights])
    earlier = None if within is None else mx.concatenate([mask.reshape(-1) for mask in within])
    mask, start, masks = magnitude_mask(flat, amount, earlier), 0, []
    for weight in weights:
        masks.append(mask[start : start + weight.size].reshape(weight.shape))
        start += weight.size
    return masks


def n_of_m_mask(scores: mx.array, n: int, m: int) -> mx.array:
    """Return a mask that keeps the `n` highest scores of every `m` inputs of `[..., out, in]`.

    Raises:
        ValueError: the inputs don't divide into groups of m, or n is not within them.
    """
    width = scores.shape[-1]
    if width % m or not 0 < n <= m:
        raise ValueError(f"{width} inputs have no {n} of every {m}.")
    return keep_highest(scores.reshape(-1, m), m - n).reshape(scores.shape)


def wanda_scores(weight: mx.array, norms: mx.array) -> mx.array:
    """Return `|weight| · norm of its input`, `[out, in]`; Sun et al. 2023, equation 1."""
    return mx.abs(weight) * norms


def wanda_mask(scores: mx.array, sparsity: float) -> mx.array:
    """Return a mask without the lowest scores of each row; Wanda compares per output."""
    return keep_highest(scores, int(scores.shape[-1] * sparsity))
