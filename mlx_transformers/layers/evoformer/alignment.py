"""Sublayers of the Evoformer that read an alignment, `m [B, S, N, D]`: S sequences, N residues.

Each returns an update without its residual connection (Jumper et al. 2021, supplement).
"""

import mlx.core as mx
import mlx.nn as nn

from ...ops.triangle import outer_product
from ..linear import ResidualLinear
from .gated_attention import GatedAttention


class PairBias(nn.Module):
    """Scores `[B, 1, H, N, N]` for the heads of an attention, from pairs `z [B, N, N, D]`."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, n_heads, bias=False)

    def __call__(self, z: mx.array) -> mx.array:
        return self.linear(self.norm(z)).transpose(0, 3, 1, 2)[:, None]


class RowAttention(nn.Module):
    """Attention between the residues of each sequence, biased by the pairs (algorithm 7)."""

    def __init__(self, dim: int, pair_dim: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.pair_bias = PairBias(pair_dim, n_heads)
        self.attention = GatedAttention(dim, n_heads, head_dim)

    def __call__(self, m: mx.array, z: mx.array, mask: mx.array | None) -> mx.array:
        return self.attention(self.norm(m), self.pair_bias(z), mask)


class ColumnAttention(nn.Module):
    """Attention between the sequences at each residue (algorithm 8)."""

    def __init__(self, dim: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = GatedAttention(dim, n_heads, head_dim)

    def __call__(self, m: mx.array, mask: mx.array | None) -> mx.array:
        turned = None if mask is None else mask.swapaxes(1, 2)
        return self.attention(self.norm(m.swapaxes(1, 2)), None, turned).swapaxes(1, 2)


class Transition(nn.Module):
    """Two linear layers with ReLU between them, at each position (algorithms 9 and 15)."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, factor * dim)
        self.down = ResidualLinear(factor * dim, dim)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        y = self.down(nn.relu(self.up(self.norm(x))))
        return y if mask is None else y * mask[..., None]


class OuterProductMean(nn.Module):
    """Pairs from an alignment: the mean over sequences of products of two residues (algorithm 10).

    The output's bias is added before the division by the count of sequences and `eps`, as in
    DeepMind's code.
    """

    def __init__(self, dim: int, pair_dim: int, hidden_dim: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps
        self.norm = nn.LayerNorm(dim)
        self.left = nn.Linear(dim, hidden_dim)
        self.right = nn.Linear(dim, hidden_dim)
        self.o = ResidualLinear(hidden_dim**2, pair_dim)

    def __call__(self, m: mx.array, mask: mx.array | None) -> mx.array:
        x = self.norm(m)
        left, right = self.left(x), self.right(x)
        if mask is None:
            return self.o(outer_product(left, right)) / (m.shape[1] + self.eps)
        real = mask[..., None].astype(m.dtype)
        count = outer_product(real, real)
        return self.o(outer_product(left * real, right * real)) / (count + self.eps)
