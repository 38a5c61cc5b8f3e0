"""ESMFold's block: one sequence in place of an alignment (Lin et al. 2023, supplement A.3)."""

import mlx.core as mx
import mlx.nn as nn

from mlx_transformers.layers.evoformer.alignment import PairBias, Transition
from mlx_transformers.layers.evoformer.gated_attention import blocked
from mlx_transformers.layers.evoformer.pairs import TriangleAttention, TriangleMultiplication
from mlx_transformers.layers.linear import ResidualLinear
from mlx_transformers.ops.triangle import attention_of_rows


class SequenceAttention(nn.Module):
    """Gated self-attention of a sequence `s [B, N, D]`, biased by the pairs."""

    def __init__(self, dim: int, pair_dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(dim)
        self.pair_bias = PairBias(pair_dim, n_heads)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        """Rows: for each head its queries, keys and values."""
        self.gate = nn.Linear(dim, dim)
        self.o = ResidualLinear(dim, dim)

    def __call__(self, s: mx.array, z: mx.array, mask: mx.array | None) -> mx.array:
        x = self.norm(s)[:, None]
        heads = self.qkv(x).reshape(*x.shape[:3], self.n_heads, -1)
        q, k, v = mx.split(heads, 3, axis=-1)
        bias = self.pair_bias(z) + blocked(None if mask is None else mask[:, None])
        y = attention_of_rows(q, k, v, bias)[:, 0].reshape(s.shape)
        return self.o(mx.sigmoid(self.gate(x[:, 0])) * y)


class SequenceToPair(nn.Module):
    """Pairs (i, j) from the product and the difference of residues j and i."""

    def __init__(self, dim: int, hidden_dim: int, pair_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, 2 * hidden_dim)
        self.o = ResidualLinear(2 * hidden_dim, pair_dim)

    def __call__(self, s: mx.array) -> mx.array:
        q, k = mx.split(self.linear(self.norm(s)), 2, axis=-1)
        q, k = q[:, None], k[:, :, None]
        return self.o(mx.concatenate([q * k, q - k], axis=-1))


class SequenceBlock(nn.Module):
    """`(s [B, N, D], z [B, N, N, E], mask [B, N]) -> (s, z)`."""

    def __init__(
        self, dim: int, pair_dim: int, n_heads: int, pair_heads: int, *, factor: int = 4
    ) -> None:
        super().__init__()
        self.attention = SequenceAttention(dim, pair_dim, n_heads)
        self.transition = Transition(dim, factor)
        self.to_pair = SequenceToPair(dim, pair_dim // 2, pair_dim)
        width = pair_dim // pair_heads
        self.outgoing = TriangleMultiplication(pair_dim, pair_dim, incoming=False)
        self.incoming = TriangleMultiplication(pair_dim, pair_dim, incoming=True)
        self.starting = TriangleAttention(pair_dim, pair_heads, width, ending=False)
        self.ending = TriangleAttention(pair_dim, pair_heads, width, ending=True)
        self.pair_transition = Transition(pair_dim, factor)

    def __call__(
        self, s: mx.array, z: mx.array, mask: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        s = s + self.attention(s, z, mask)
        s = s + self.transition(s, None)
        z = z + self.to_pair(s)
        both = None if mask is None else mask[:, :, None] * mask[:, None, :]
        for layer in (self.outgoing, self.incoming, self.starting, self.ending):
            z = z + layer(z, both)
        return s, z + self.pair_transition(z, None)
