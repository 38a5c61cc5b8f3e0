"""A block of the Evoformer: an alignment and pairs of residues that inform each other."""

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context
from .alignment import ColumnAttention, OuterProductMean, RowAttention, Transition
from .pairs import TriangleAttention, TriangleMultiplication
from .sizes import EvoformerSizes

BY_ROW, BY_COLUMN = 1, 2
"""The axis of `[B, rows, columns, D]` along which a dropout mask is the same."""


class PairStack(nn.Module):
    """Triangle updates of pairs `z [B, N, N, D]`, and their transition."""

    def __init__(self, sizes: EvoformerSizes) -> None:
        super().__init__()
        dim, heads, width = sizes.pair_dim, sizes.pair_heads, sizes.pair_head_dim
        self.dropout = sizes.pair_dropout
        self.outgoing = TriangleMultiplication(dim, sizes.triangle_dim, incoming=False)
        self.incoming = TriangleMultiplication(dim, sizes.triangle_dim, incoming=True)
        self.starting = TriangleAttention(dim, heads, width, ending=False)
        self.ending = TriangleAttention(dim, heads, width, ending=True)
        self.transition = Transition(dim, sizes.factor)

    def __call__(
        self, z: mx.array, mask: mx.array | None = None, ctx: Context | None = None
    ) -> mx.array:
        ctx = ctx or Context()
        for layer in (self.outgoing, self.incoming, self.starting):
            z = z + shared_dropout(layer(z, mask), self.dropout, BY_ROW, ctx)
        z = z + shared_dropout(self.ending(z, mask), self.dropout, BY_COLUMN, ctx)
        return z + self.transition(z, mask)


class EvoformerBlock(nn.Module):
    """`(m [B, S, N, D], z [B, N, N, E], mask of m, mask of z, ctx) -> (m, z)`.

    Jumper et al. 2021, supplement, algorithm 6. With `outer_first` the alignment informs the pairs
    before it is updated, as in AlphaFold-Multimer (Evans et al. 2022). The pass of `ctx` draws
    dropout; without one there is none.
    """

    def __init__(self, sizes: EvoformerSizes) -> None:
        super().__init__()
        self.sizes = sizes
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
        ctx: Context | None = None,
    ) -> tuple[mx.array, mx.array]:
        ctx, first = ctx or Context(), self.sizes.outer_first
        if first:
            z = z + self.outer(m, mask)
        m = m + shared_dropout(self.row(m, z, mask), self.sizes.dropout, BY_ROW, ctx)
        m = m + self.column(m, mask)
        m = m + self.transition(m, mask)
        if not first:
            z = z + self.outer(m, mask)
        return m, self.pairs(z, pair_mask, ctx)


def shared_dropout(x: mx.array, rate: float, axis: int, ctx: Context) -> mx.array:
    """Dropout of x `[B, rows, columns, D]` with one mask for all entries along `axis`.

    Jumper et al. 2021, supplement, section 1.11.6.
    """
    if ctx.key is None or rate == 0.0:
        return x
    ones = mx.ones([1 if i == axis else n for i, n in enumerate(x.shape)], x.dtype)
    return x * ctx.dropout(ones, rate)
