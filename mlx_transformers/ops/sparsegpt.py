"""SparseGPT: prunes a matrix column by column, and lets later columns make up for the error.

Frantar and Alistarh 2023, algorithm 1.
"""

from typing import NamedTuple

import numpy as np

from .hessian import DAMP, inverse_factor, silence_dead

BLOCK = 128
"""Columns whose mask is chosen together, the paper's B_s."""


class Pruned(NamedTuple):
    """A pruned matrix.

    Attributes:
        mask: true where a weight is kept, `[out, in]`.
        weight: the weights, those that are kept updated.
    """

    mask: np.ndarray
    weight: np.ndarray


def sparsegpt(
    weight: np.ndarray,
    h: np.ndarray,
    sparsity: float = 0.5,
    *,
    n_of_m: tuple[int, int] | None = None,
    block: int = BLOCK,
    damp: float = DAMP,
) -> Pruned:
    """Prune a matrix so that the outputs of its layer change little.

    Args:
        weight: `[out, in]`.
        h: the Hessian of its inputs, `[in, in]`.
        sparsity: share that goes, within each block of columns.
        n_of_m: keep n of every m inputs instead.
        block: columns whose mask is chosen together.
        damp: share of the mean diagonal that is added to the diagonal.
    """
    w, h = silence_dead(np.asarray(weight, np.float64), h)
    factor = inverse_factor(h, damp)
    n = w.shape[1]
    keep = np.ones(w.shape, bool)
    if n_of_m is not None:  # a group of m doesn't reach into the next block
        block = max(block - block % n_of_m[1], n_of_m[1])
    for start in range(0, n, block):
        end = min(start + block, n)
        scale = np.diag(factor)[start:end]
        errors = np.zeros((len(w), end - start))
        if n_of_m is None:
            saliency = (w[:, start:end] / scale) ** 2
            ranked = np.sort(saliency, axis=None)
            threshold = ranked[min(int(saliency.size * sparsity), saliency.size - 1)]
            keep[:, start:end] = saliency > threshold
        for j in range(start, end):
            if n_of_m is not None and (j - start) % n_of_m[1] == 0:
                n_kept, m = n_of_m
                saliency = (w[:, j : j + m] / np.diag(factor)[j : j + m]) ** 2
                lowest = np.argsort(saliency, axis=1, kind="stable")[:, : m - n_kept]
                np.put_along_axis(keep[:, j : j + m], lowest, False, axis=1)
            error = np.where(keep[:, j], 0, w[:, j]) / factor[j, j]
            w[:, j:end] -= np.outer(error, factor[j, j:end])
            errors[:, j - start] = error
        w[:, end:] -= errors @ factor[start:end, end:]
    return Pruned(keep, np.where(keep, w, 0))
