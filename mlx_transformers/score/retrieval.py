"""Metrics of retrieval: how high the right answer of a question is ranked among all of them."""

import numpy as np

from .interval import Score, mean, scored

DEPTHS = (1, 5, 10)
"""The k of recall@k."""


def ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the rank of the best right answer of each question, from 1 on, `[N]`.

    Args:
        scores: of each question and answer, `[N, M]`; an equal score counts as a better one.
        right: whether an answer is right, `[N, M]`, once or more in each row.
    """
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    rank: np.ndarray = 1 + ((scores >= best) & ~right).sum(axis=1)
    return rank


def retrieval(name: str, scores: np.ndarray, right: np.ndarray) -> list[Score]:
    """Return recall@1, 5 and 10, and the median rank, for scores and `right` as of `ranks`."""
    rank_of = ranks(scores, right)
    recalls = [mean(f"{name}_recall@{k}", (rank_of <= k).astype(np.float64)) for k in DEPTHS]
    middle = scored(f"{name}_median_rank", len(rank_of), lambda i: float(np.median(rank_of[i])))
    return [*recalls, middle]
