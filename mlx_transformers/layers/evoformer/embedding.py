"""Embedding of an alignment: vectors of its letters, and of the pairs of its residues."""

import mlx.core as mx
import mlx.nn as nn

from ...ops.lookup import lookup


class AlignmentEmbedding(nn.Module):
    """`tokens [B, S, N] -> (m [B, S, N, D], z [B, N, N, E])`.

    Jumper et al. 2021, supplement, algorithms 3 to 5: `m_si = A[t_si] + Q[t_1i]` and
    `z_ij = L[t_1i] + R[t_1j] + P[clip(i - j)]`, where t_1 is the first sequence, and P a table of
    distances along the chain up to `distance`.
    """

    def __init__(self, vocab_size: int, dim: int, pair_dim: int, distance: int) -> None:
        super().__init__()
        self.distance = distance
        self.table = nn.Embedding(vocab_size, dim)
        self.query = nn.Embedding(vocab_size, dim)
        self.left = nn.Embedding(vocab_size, pair_dim)
        self.right = nn.Embedding(vocab_size, pair_dim)
        self.relative = nn.Embedding(2 * distance + 1, pair_dim)

    def __call__(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        first = tokens[:, 0]
        m = lookup(self.table.weight, tokens) + lookup(self.query.weight, first)[:, None]
        left = lookup(self.left.weight, first)[:, :, None]
        right = lookup(self.right.weight, first)[:, None]
        index = mx.arange(tokens.shape[-1])
        offset = mx.clip(index[:, None] - index[None], -self.distance, self.distance)
        return m, left + right + lookup(self.relative.weight, offset + self.distance)
