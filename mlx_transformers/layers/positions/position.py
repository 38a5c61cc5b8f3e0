"""The base class of position modules."""

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context, Positions
from ...core.errors import RecipeError
from ...core.footprint import ActivationShape


class Position(Positions, nn.Module):
    """Positions of a stack, read by its embedding and mixers. A kind overrides what it needs."""

    @property
    def recompute_beyond(self) -> int | None:
        """Sequence length at which the frequencies change (LongRoPE), so that cached keys must be
        recomputed; None: never."""
        return None

    def positions(self, length: int, ctx: Context) -> mx.array:
        """Absolute positions: `[T]`, or `[B, T]` if they differ by row.

        In a packed row they restart with every document.
        """
        if ctx.layout.positions is not None:
            return ctx.layout.positions
        index = mx.arange(length)
        if ctx.layout.segments is None:
            return index + ctx.cursor.offset
        begins = ctx.layout.segments[:, 1:] != ctx.layout.segments[:, :-1]
        starts = mx.cummax(mx.pad(mx.where(begins, index[1:], 0), [(0, 0), (1, 0)]), axis=1)
        return index - starts + ctx.cursor.offset

    def counted(self, length: int, ctx: Context) -> mx.array:
        """Absolute positions that skip padding, `[T]` or `[B, T]`: the first token of a row that is
        not padding has the position of an unpadded row's first, padding the one before."""
        if (
            ctx.layout.valid is None
            or ctx.layout.positions is not None
            or ctx.layout.segments is not None
        ):
            return self.positions(length, ctx)
        return (
            mx.where(ctx.layout.valid, mx.cumsum(ctx.layout.valid.astype(mx.int32), axis=1), 0)
            - 1
            + ctx.cursor.offset
        )

    def ahead(self, length: int) -> mx.array:
        """The distances `s - t` of keys from queries of a row, `[2T - 1]`."""
        return mx.arange(2 * length - 1) - (length - 1)

    def admit(self, length: int) -> None:
        """Raise RunError if there are fewer than `length` positions."""


def per_token(numbers: float, at: ActivationShape) -> float:
    """Bytes per token of an array that has `numbers` for each distance of a row."""
    return (2 * at.length - 1) * numbers * at.itemsize / at.tokens


def check_heads(q: mx.array, n_heads: int, head_dim: int) -> None:
    """Raise RecipeError if queries `[B, H, T, K]` don't match the heads of a position kind with
    weights per head; weights for one head serve any number."""
    for field, expected, actual in (
        ("n_heads", n_heads, q.shape[1]),
        ("head_dim", head_dim, q.shape[3]),
    ):
        if expected != actual and not (field == "n_heads" and expected == 1):
            raise RecipeError(
                f"position.{field} is {expected}, and the mixer's queries have {actual}. Set "
                f"position.{field} = {actual}."
            )
