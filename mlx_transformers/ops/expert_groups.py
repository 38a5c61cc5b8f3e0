"""Group-limited routing: the experts of a token's best groups, so that it meets few devices."""

import mlx.core as mx

from ..core.shapes import NE, BoolNE


def in_best_groups(scores: NE, n_groups: int, kept: int, by: str) -> BoolNE:
    """Mask the experts of each token's `kept` best groups, boolean `[N, E]`.

    E experts form `n_groups` groups of neighbours. A group's score is that of its best expert (`by`
    = "best": DeepSeek-V2, section 2.2.2) or of its two best ("best_two": V3, section 2.1.2).
    """
    grouped = scores.reshape(scores.shape[0], n_groups, -1)
    best = mx.topk(grouped, min(1 if by == "best" else 2, grouped.shape[-1]), axis=-1)
    worth = best.sum(axis=-1)
    order = mx.argsort(mx.argsort(-worth, axis=-1), axis=-1)
    return mx.repeat(order < kept, grouped.shape[-1], axis=-1)
