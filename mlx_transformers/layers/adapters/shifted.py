"""Positions of tokens behind virtual ones."""

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.score_bias import DistanceBias
from ..positions.position import Position
from .adapted import Wrapper
from .switch import Switch


class ShiftedPosition(Position, Wrapper):
    """Positions that begin at `length` instead of 0, while adapters are on."""

    base: Position

    def __init__(self, base: Position, length: int, switch: Switch) -> None:
        super().__init__()
        self.base, self.length, self.switch = base, length, switch

    @property
    def recompute_beyond(self) -> int | None:
        return self.base.recompute_beyond

    def _shifted(self, ctx: Context) -> Context:
        if not self.switch.on:
            return ctx
        n, positions = self.length, ctx.layout.positions
        if positions is not None:
            return replace(ctx, layout=replace(ctx.layout, positions=positions + n))
        total = ctx.cursor.total_length
        cursor = replace(ctx.cursor, offset=ctx.cursor.offset + n)
        if total is not None:
            cursor = replace(cursor, total_length=total + n)
        return replace(ctx, cursor=cursor)

    def embed(self, x: mx.array, ctx: Context) -> mx.array:
        self.admit(x.shape[1])  # the base admits rows that begin at 0
        return self.base.embed(x, self._shifted(ctx))

    def rotate(self, q: mx.array, k: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        return self.base.rotate(q, k, self._shifted(ctx))

    def bias(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: Context
    ) -> mx.array | None:
        return self.base.bias(q, k, q_pos, k_pos, ctx)

    def summary_bias(self, ahead: mx.array) -> mx.array | None:
        return self.base.summary_bias(ahead)

    def distance_bias(self, q: mx.array, k: mx.array, ctx: Context) -> DistanceBias | None:
        return self.base.distance_bias(q, k, ctx)

    def relative(self, q_pos: mx.array, k_pos: mx.array) -> tuple[mx.array, mx.array] | None:
        return self.base.relative(q_pos, k_pos)

    def positions(self, length: int, ctx: Context) -> mx.array:
        return self.base.positions(length, self._shifted(ctx))

    def admit(self, length: int) -> None:
        self.base.admit(length + (self.length if self.switch.on else 0))

    def merged(self) -> nn.Module:
        raise RecipeError(
            "A prefix is no function of the model's weights, so it can't be merged into them."
        )
