"""Sublayers of the Evoformer on pairs of residues, `z [B, N, N, D]`.

Each returns an update without its residual connection (Jumper et al. 2021, supplement).
"""

import mlx.core as mx
import mlx.nn as nn

from ...ops.triangle import triangle_product
from ..linear import ResidualLinear
from .alignment import PairBias
from .gated_attention import GatedAttention


class TriangleMultiplication(nn.Module):
    """An edge from the two others of all its triangles, multiplied (algorithms 11 and 12)."""

    def __init__(self, dim: int, hidden_dim: int, *, incoming: bool) -> None:
        super().__init__()
        self.incoming = incoming
        self.norm = nn.LayerNorm(dim)
        self.a = nn.Linear(dim, hidden_dim)
        self.a_gate = nn.Linear(dim, hidden_dim)
        self.b = nn.Linear(dim, hidden_dim)
        self.b_gate = nn.Linear(dim, hidden_dim)
        self.out_norm = nn.LayerNorm(hidden_dim)
        self.gate = nn.Linear(dim, dim)
        self.o = ResidualLinear(hidden_dim, dim)

    def __call__(self, z: mx.array, mask: mx.array | None) -> mx.array:
        x = self.norm(z)
        a = mx.sigmoid(self.a_gate(x)) * self.a(x)
        b = mx.sigmoid(self.b_gate(x)) * self.b(x)
        if mask is not None:
            a, b = a * mask[..., None], b * mask[..., None]
        y = self.o(self.out_norm(triangle_product(a, b, incoming=self.incoming)))
        return mx.sigmoid(self.gate(x)) * y


class TriangleAttention(nn.Module):
    """Attention between the edges that start, or end, at one residue (algorithms 13 and 14).

    Ending edges are the starting ones of the transposed pairs.
    """

    def __init__(self, dim: int, n_heads: int, head_dim: int, *, ending: bool) -> None:
        super().__init__()
        self.ending = ending
        self.pair_bias = PairBias(dim, n_heads)
        self.attention = GatedAttention(dim, n_heads, head_dim)

    def __call__(self, z: mx.array, mask: mx.array | None) -> mx.array:
        if self.ending:
            z = z.swapaxes(1, 2)
            mask = None if mask is None else mask.swapaxes(1, 2)
        x = self.pair_bias.norm(z)
        bias = self.pair_bias.linear(x).transpose(0, 3, 1, 2)[:, None]
        y = self.attention(x, bias, mask)
        return y.swapaxes(1, 2) if self.ending else y
