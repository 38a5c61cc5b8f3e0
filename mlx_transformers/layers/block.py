"""The block of every stack: a mixer, an ffn, and the residual wiring around them.

sequential   x = residual(x, mixer);  x = residual(x, ffn)
parallel     x = residual(x, mixer + ffn)        (GPT-J, PaLM: one norm feeds both)
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.footprint import Pass
from ..recipe.config import Config, Kind
from ..recipe.slot import Slot
from .residual import Placement, Residual, residual_kept


class Block(Config):
    """One layer of a stack."""

    placement: Placement
    """Where the norms stand: `pre`, `post`, `sandwich` or `reordered`."""
    arrangement: Literal["sequential", "parallel"] = "sequential"
    """Whether the ffn follows the mixer or stands beside it."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the output of mixer and ffn, before it joins the residual stream."""
    norm: Annotated[Kind, Slot("norm")]
    """The normalisation of this block."""
    mixer: Annotated[Kind, Slot("mixer")]
    """What moves information between positions."""
    ffn: Annotated[Kind, Slot("ffn")]
    """What transforms each position on its own."""

    def build(self, dim: int) -> "BlockModule":
        return BlockModule(self, dim)

    def kept(self, dim: int, at: Pass) -> float:
        """Bytes per token that the block keeps for its backward."""
        inside = sum(part.kept(dim, at) for part in (self.mixer, self.ffn))  # type: ignore[attr-defined]
        around = residual_kept(self.norm, self.placement, self.dropout, dim, at)
        if self.arrangement == "parallel":
            return inside + around - dim * at.width  # mixer and ffn read the same input
        return inside + 2 * around


class BlockModule(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`, and the same one step at a time for decoding."""

    def __init__(self, config: Block, dim: int) -> None:
        super().__init__()
        self.mixer = config.mixer.build(dim)
        self.ffn = config.ffn.build(dim)
        self.parallel = config.arrangement == "parallel"

        def residual() -> Residual:
            return Residual(dim, config.norm, config.placement, config.dropout)

        if self.parallel:
            self.residual = residual()
        else:
            self.mixer_residual = residual()
            self.ffn_residual = residual()

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self._wire(x, ctx, lambda h: self.mixer(h, ctx))

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> Any:
        """The mixer's decode state for `batch` rows of at most `length` tokens."""
        return self.mixer.init_state(batch, length, dtype)

    def step(self, x: mx.array, state: Any, ctx: Context) -> tuple[mx.array, Any]:
        """Continue every row by the T tokens of `x`; returns the output and the new state."""
        new: list[Any] = []

        def mix(h: mx.array) -> mx.array:
            y, after = self.mixer.step(h, state, ctx)
            new.append(after)
            return y

        return self._wire(x, ctx, mix), new[0]

    def _wire(self, x: mx.array, ctx: Context, mix: Callable[[mx.array], mx.array]) -> mx.array:
        if self.parallel:
            return self.residual(x, lambda h: mix(h) + self.ffn(h, ctx), ctx)
        x = self.mixer_residual(x, mix, ctx)
        return self.ffn_residual(x, lambda h: self.ffn(h, ctx), ctx)
