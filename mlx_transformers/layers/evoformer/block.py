"""A block of the Evoformer: an alignment and pairs of residues that inform each other."""

import mlx.core as mx
import mlx.nn as nn

from .alignment import ColumnAttention, OuterProductMean, RowAttention, Transition
from .pairs import TriangleAttention, TriangleMultiplication
from .sizes import EvoformerSizes


class PairStack(nn.Module):
    """Triangle updates of pairs `z [B, N, N, D]`, and their transition."""

    def __init__(self, sizes: EvoformerSizes) -> None:
        super().__init__()
        dim, heads, width = sizes.pair_dim, sizes.pair_heads, sizes.pair_head_dim
        self.outgoing = TriangleMultiplication(dim, sizes.triangle_dim, incoming=False)
        self.incoming = TriangleMultiplication(dim, sizes.triangle_dim, incoming=True)
        self.starting = TriangleAttention(dim, heads, width, ending=False)
        self.ending = TriangleAttention(dim, heads, width, ending=True)
        self.transition = Transition(dim, sizes.factor)

    def __call__(self, z: mx.array, mask: mx.array | None = None) -> mx.array:
        for layer in (self.outgoing, self.incoming, self.starting, self.ending, self.transition):
            z = z + layer(z, mask)
        return z


class EvoformerBlock(nn.Module):
    """`(m [B, S, N, D], z [B, N, N, E], mask of m, mask of z) -> (m, z)`.

    Jumper et al. 2021, supplement, algorithm 6. With `outer_first` the alignment informs the pairs
    before it is updated, as in AlphaFold-Multimer (Evans et al. 2022).
    """

    def __init__(self, sizes: EvoformerSizes) -> None:
        super().__init__()
        self.outer_first = sizes.outer_first
        dim, heads, width = sizes.dim, sizes.n_heads, sizes.head_dim
        self.row = RowAttention(dim, sizes.pair_dim, heads, width)
        self.column = ColumnAttention(dim, heads, width)
        self.transition = Transition(dim, sizes.factor)
        self.outer = OuterProductMean(dim, sizes.pair_dim, sizes.outer_dim, sizes.outer_eps)
        self.pairs = PairStack(sizes)

    def __call__(
        self,
        m: mx.array,
        z: mx.array,
        mask: mx.array | None = None,
        pair_mask: mx.array | None = None,
    ) -> tuple[mx.array, mx.array]:
        if self.outer_first:
            z = z + self.outer(m, mask)
        m = m + self.row(m, z, mask)
        m = m + self.column(m, mask)
        m = m + self.transition(m, mask)
        if not self.outer_first:
            z = z + self.outer(m, mask)
        return m, self.pairs(z, pair_mask)
