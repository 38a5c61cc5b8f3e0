"""What every position kind offers, each with an identity default."""

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context
from ...core.errors import RecipeError


class Position(nn.Module):
    """How a stack tells its mixers where a token stands. A kind overrides what it needs."""

    def embed(self, x: mx.array, ctx: Context) -> mx.array:
        """Add to the embeddings `x [B, T, D]` what depends on absolute position."""
        return x

    def rotate(self, q: mx.array, k: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        """Turn queries `[B, H, T, K]` and keys `[B, G, T, K]` by their positions."""
        return q, k

    @property
    def recompute_beyond(self) -> int | None:
        """The length beyond which a pass means something else for all of its tokens, those before
        it included, so that a decode state from before is of no use; None for none."""
        return None

    def bias(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: Context
    ) -> mx.array | None:
        """What to add to the scores, broadcastable to `[B, H, T, S]`; None adds nothing.

        Args:
            q, k: scaled queries `[B, H, T, K]` and keys `[B, G, S, K]`, as they meet.
            q_pos, k_pos: `[T]` and `[S]`, their places; only differences of them mean anything.
        """
        return None

    def relative(self, q_pos: mx.array, k_pos: mx.array) -> tuple[mx.array, mx.array] | None:
        """A table of vectors `[N, D]` and the row of it for each pair of places, `[T, S]`; None
        where there is none to lend."""
        return None

    def positions(self, length: int, ctx: Context) -> mx.array:
        """Absolute positions of this pass: `[T]`, or `[B, T]` where they differ by row.

        In a packed row they begin anew with every document, so that a document means the same
        wherever it stands.
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
        """Positions of a pass in which padding has none, `[T]` or `[B, T]`: the first token of a
        row that exists stands where an unpadded row begins, padding one before that."""
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

    def admit(self, length: int) -> None:
        """Accept sequences of `length` tokens.

        Raises:
            RunError: there are not as many positions.
        """


def check_heads(q: mx.array, n_heads: int, head_dim: int) -> None:
    """Raise RecipeError where queries `[B, H, T, K]` are not as a position with weights of its own
    for each head was told; one head's weights serve any number."""
    for field, said, found in (
        ("n_heads", n_heads, q.shape[1]),
        ("head_dim", head_dim, q.shape[3]),
    ):
        if said != found and not (field == "n_heads" and said == 1):
            raise RecipeError(
                f"position.{field} is {said}, and the mixer's queries have {found}. Set "
                f"position.{field} = {found}."
            )
