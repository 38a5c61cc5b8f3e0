"""Rotary position embeddings (RoPE)."""

from typing import Annotated, Any, Literal

import mlx.core as mx
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.shapes import BGTK, BHTK
from ...ops.rotary import rotate
from ...recipe.slot import Slot
from ..kinds import PositionKind, ScalingKind
from .growth import Growth
from .position import Position
from .scalings.scaling import plain_inv_freq, single


class Rope(Growth, PositionKind):
    """Rotary position embedding (RoPE): pairs of query and key features are rotated by position.

    Feature pair i at position p is rotated by `p · theta^(-2i/K)` radians, so that a score depends
    on the distance alone; Su et al. 2021, equation 34. Pairs are (i, i + K/2) as in LLaMA's
    published weights, or (2i, 2i + 1) if `traditional`.
    """

    kind: Literal["rope"] = "rope"
    theta: float = Field(10000.0, gt=1)
    """Base of the wavelengths."""
    fraction: float = Field(1.0, gt=0, le=1)
    """Share of each head's features that are rotated (GPT-J, NeoX, Phi: less than 1); an odd
    number of them is rounded up to whole pairs, as in NeoX's published code."""
    traditional: bool = False
    """Whether adjacent features form a pair, as in the paper."""
    scaling: Annotated[ScalingKind, Slot("scaling")] | None = None
    """Scaling of the frequencies for contexts longer than in training; none means no scaling."""

    def build(self, dim: int, max_seq_len: int) -> "RopePosition":
        return RopePosition(self)


class RopePosition(Position):
    """Rotates queries and keys by their positions, without parameters."""

    def __init__(self, config: Rope) -> None:
        super().__init__()
        self.config = config
        self.scaling = config.scaling

    @property
    def recompute_beyond(self) -> int | None:
        return None if self.scaling is None else self.scaling.recompute_beyond

    def inv_freq(self, head_dim: int, length: Any = 1) -> mx.array:
        """Radians per position of each rotated pair, `[K/2]`, in a sequence of `length` tokens.

        Raises:
            RecipeError: the fraction leaves no pair, so that the model would have no positions, or
                the scaling has not one factor for each pair.
        """
        rotated = int(head_dim * self.config.fraction)
        if rotated == head_dim:
            rotated = rotated // 2 * 2
        if rotated == 0:
            raise RecipeError(
                f"position.fraction = {self.config.fraction} of a head of {head_dim} features "
                "leaves no pair to rotate: raise it, choose fewer and wider heads, or the kind "
                "'none'."
            )
        if self.scaling is None:
            return single(plain_inv_freq(self.config.theta, rotated))
        return self.scaling.inv_freq(self.config.theta, rotated, length)

    def rotate(self, q: BHTK, k: BGTK, ctx: Context) -> tuple[BHTK, BGTK]:
        at: dict[str, Any] = {"offset": ctx.cursor.offset}
        if ctx.layout.positions is not None:
            at = {"positions": ctx.layout.positions}
        length = _length(q.shape[2], ctx)
        turned = self.config.grow(self._rotate(q, length, **at), self, ctx)
        return turned, self._rotate(k, length, **at)

    def _rotate(self, x: mx.array, length: Any, **at: Any) -> mx.array:
        return rotate(
            x,
            self.inv_freq(x.shape[-1], length),
            traditional=self.config.traditional,
            size=1.0 if self.scaling is None else self.scaling.size(),
            **at,
        )


def _length(steps: int, ctx: Context) -> Any:
    """Length of the sequence that ends with this pass, for scalings that depend on it: a scalar,
    or `[B, 1, 1]` in a padded batch, whose rows have lengths of their own."""
    positions, total = ctx.layout.positions, ctx.cursor.total_length
    if positions is None:
        length = ctx.cursor.offset + steps
    elif ctx.cursor.pad is None:
        length = mx.max(positions) + 1
    else:
        length = mx.max(positions, axis=1)[:, None, None] + 1
    if total is None:
        return length
    return mx.maximum(length, total[:, None, None] if total.ndim else total)
