"""Correlation of two lists of numbers: Pearson's, and Spearman's of their ranks."""

import numpy as np


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of `a [n]` and `b [n]`; 0 where one of them is constant."""
    x, y = a - a.mean(), b - b.mean()
    norms = np.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / norms, -1, 1)) if norms > 0 else 0.0


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation: Pearson's r of the ranks."""
    return pearson(ranks(a), ranks(b))


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value from 1, equal values sharing their mean rank, `[n]`."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[group], dtype=np.float64)
