"""Attention along the rows of an alignment or of pairs, with a bias and a sigmoid gate."""

import mlx.core as mx
import mlx.nn as nn

from ...ops.triangle import attention_of_rows
from ..linear import ResidualLinear

BLOCKED = 1e9
"""Subtracted from the scores of keys that are padding."""


class GatedAttention(nn.Module):
    """`(x [B, R, T, D], bias [B, 1 or R, H, T, T], mask [B, R, T] or None) -> [B, R, T, D]`.

    Jumper et al. 2021, supplement, algorithms 7, 8, 13 and 14. Scores, gate and output are those of
    each row R; queries, keys and values have no bias.
    """

    def __init__(self, dim: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        width = n_heads * head_dim
        self.q = nn.Linear(dim, width, bias=False)
        self.k = nn.Linear(dim, width, bias=False)
        self.v = nn.Linear(dim, width, bias=False)
        self.gate = nn.Linear(dim, width)
        self.o = ResidualLinear(width, dim)

    def __call__(self, x: mx.array, bias: mx.array | None, mask: mx.array | None) -> mx.array:
        heads = (*x.shape[:3], self.n_heads, -1)
        q, k, v = (layer(x).reshape(heads) for layer in (self.q, self.k, self.v))
        scores = blocked(mask) if bias is None else bias + blocked(mask)
        y = attention_of_rows(q, k, v, scores).reshape(*x.shape[:3], -1)
        return self.o(mx.sigmoid(self.gate(x)) * y)


def blocked(mask: mx.array | None) -> mx.array:
    """The bias `[B, R, 1, 1, T]` of a mask `[B, R, T]`, 1 where an entry is real."""
    if mask is None:
        return mx.zeros((1, 1, 1, 1, 1))
    return (BLOCKED * (mask.astype(mx.float32) - 1.0))[:, :, None, None, :]
