"""Widths and heads of an Evoformer block."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvoformerSizes:
    """Sizes of a block.

    Attributes:
        dim: width of the alignment.
        n_heads: heads of row and column attention.
        head_dim: width of one of them.
        pair_dim: width of the pairs.
        pair_heads: heads of triangle attention.
        pair_head_dim: width of one of them.
        triangle_dim: width of the triangle multiplications.
        outer_dim: width of the outer product mean.
        factor: the transitions' inner width over their own.
        outer_first: whether the outer product mean comes before the updates of the alignment.
        outer_eps: added to the count that the outer product is divided by.
    """

    dim: int
    n_heads: int
    head_dim: int
    pair_dim: int
    pair_heads: int
    pair_head_dim: int
    triangle_dim: int
    outer_dim: int
    factor: int = 4
    outer_first: bool = False
    outer_eps: float = 1e-3
