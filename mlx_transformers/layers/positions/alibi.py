"""Attention with linear biases (ALiBi)."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ...core.context import Context
from ...core.score_bias import DistanceBias
from ..kinds import PositionKind
from .position import Position


class Alibi(PositionKind):
    """Attention with linear biases (ALiBi): scores decrease with distance, at a rate per head.

    `score(t, s) + slope_h · (s - t)`, with slopes `2^(-8h/H)` for h = 1 ... H; Press et al. 2021,
    section 3. If H is no power of two, the slopes of the next lower power come first, then every
    other one of the next higher, as in the paper's code. BLOOM, MPT, Falcon-RW.
    """

    kind: Literal["alibi"] = "alibi"
    adds_to_scores: ClassVar[bool] = True
    max_bias: float = Field(8.0, gt=0)
    """The 8 of the formula: the last slope is 2^-max_bias (MPT: alibi_bias_max)."""
    scale: float = Field(1.0, gt=0)
    """Factor of the bias (Falcon: 1/√K, since it adds the bias before scaling)."""

    def build(self, dim: int, max_seq_len: int) -> "AlibiPosition":
        return AlibiPosition(self)


class AlibiPosition(Position):
    """`scores - scale · slope · distance`, without parameters, at any length."""

    def __init__(self, config: Alibi) -> None:
        super().__init__()
        self.config = config

    def distance_bias(self, q: mx.array, k: mx.array, ctx: Context) -> DistanceBias:
        slopes = mx.array(alibi_slopes(q.shape[1], self.config.max_bias), mx.float32)
        distance = mx.abs(self.ahead(q.shape[2])).astype(mx.float32)
        return DistanceBias(-self.config.scale * slopes[None, :, None] * distance)

    def bias(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: Context
    ) -> mx.array:
        slopes = mx.array(alibi_slopes(q.shape[1], self.config.max_bias), mx.float32)
        distance = mx.abs(q_pos[:, None] - k_pos[None, :]).astype(mx.float32)
        return -self.config.scale * slopes[None, :, None, None] * distance


def alibi_slopes(n_heads: int, max_bias: float = 8.0) -> list[float]:
    """The slope of each head, `[H]`."""
    lower = 2 ** math.floor(math.log2(n_heads))
    slopes = [2 ** (-max_bias * (h + 1) / lower) for h in range(lower)]
    between = [2 ** (-max_bias * (h + 1) / (2 * lower)) for h in range(0, 2 * lower, 2)]
    return slopes + between[: n_heads - lower]
