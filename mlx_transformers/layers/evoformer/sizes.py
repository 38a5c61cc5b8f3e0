"""Widths and heads of an Evoformer block, and what its activations and products cost."""

from dataclasses import dataclass

from ...core.footprint import ActivationShape


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
        dropout: dropout of row attention, one mask for all sequences.
        pair_dropout: dropout of the triangle updates, one mask for a row or a column of pairs.
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
    dropout: float = 0.0
    pair_dropout: float = 0.0


@dataclass(frozen=True)
class EvoformerCost:
    """The costs of a block for alignments of `length` residues, per token of a flat alignment.

    Attributes:
        sizes: sizes of the block.
        length: residues N of a sequence.
    """

    sizes: EvoformerSizes
    length: int

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""
        s, n, depth = self.sizes, self.length, at.length / self.length
        width, pair_width = s.n_heads * s.head_dim, s.pair_heads * s.pair_head_dim
        rows = 2 * s.dim + 7 * width + s.n_heads * n
        columns = 2 * s.dim + 7 * width + s.n_heads * depth
        alignment = rows + columns + 2 * s.dim * (1 + s.factor) + 2 * (s.dim + s.outer_dim)
        multiplication = 4 * s.pair_dim + 10 * s.triangle_dim
        attention = 2 * s.pair_dim + 7 * pair_width + s.pair_heads * (1 + n)
        pair = 2 * s.pair_dim + s.n_heads + s.outer_dim**2
        pair += 2 * (multiplication + attention) + 2 * s.pair_dim * (1 + s.factor)
        return (alignment + pair * n / depth) * at.itemsize

    def flops(self, tokens: int) -> float:
        """Operations of matrix products per token of a row of `tokens`, beyond two for each weight.

        The weights of the pair stack meet N² pairs, and not the S N tokens of the alignment.
        """
        s, n, depth = self.sizes, self.length, tokens / self.length
        width, pair_width = s.n_heads * s.head_dim, s.pair_heads * s.pair_head_dim
        alignment = 4 * width * (n + depth) + 2 * s.outer_dim**2 * n
        pair = 2 * 2 * s.triangle_dim * n + 2 * 4 * pair_width * n
        return alignment + pair * n / depth + 2 * self.pair_weights * (n / depth - 1)

    @property
    def pair_weights(self) -> int:
        """Weights of matrices that meet the pairs."""
        s = self.sizes
        width = s.pair_heads * s.pair_head_dim
        multiplication = s.pair_dim * (5 * s.triangle_dim + s.pair_dim)
        attention = s.pair_dim * (5 * width + s.pair_heads)
        transition = 2 * s.factor * s.pair_dim**2
        outer = s.outer_dim**2 * s.pair_dim
        return 2 * (multiplication + attention) + transition + outer + s.pair_dim * s.n_heads
