"""Product keys: the best k of N² keys, found among 2 N half keys.

Key i N + j is the pair of half key i of the first table and j of the second, and its score the sum
of both scores. The k best pairs are among those of the k best halves, so that N² keys cost 2 N
products. Lample et al. 2019, "Large Memory Layers with Product Keys" (arXiv:1907.05242), section 3.
"""

import mlx.core as mx


def best_keys(first: mx.array, second: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """Scores `[..., k]` and rows `[..., k]` of the k best keys; equals `best_keys_naive`.

    Args:
        first, second: scores `[..., N]` of the half keys.
        k: keys to choose, at most N.
    """
    (a, i), (b, j) = _best(first, k), _best(second, k)
    sums = (a[..., :, None] + b[..., None, :]).flatten(-2)
    rows = (i[..., :, None] * first.shape[-1] + j[..., None, :]).flatten(-2)
    scores, chosen = _best(sums, k)
    return scores, mx.take_along_axis(rows, chosen, axis=-1)


def best_keys_naive(first: mx.array, second: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The definition: the k best of all N² sums."""
    return _best((first[..., :, None] + second[..., None, :]).flatten(-2), k)


def _best(scores: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The k largest of the last axis, largest first, and their positions."""
    order = mx.argsort(-mx.stop_gradient(scores), axis=-1)[..., :k]
    return mx.take_along_axis(scores, order, axis=-1), order
