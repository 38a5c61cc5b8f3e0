"""Rotary positions."""

from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...ops.rotary import rotate
from ...recipe.config import Kind
from .position import Position


class Rope(Kind):
    """Rotary position embedding: pairs of query and key features turn with position.

    Feature pair i of position p turns by `p · theta^(-2i/K)`, so that a score depends on the
    distance alone; Su et al. 2021, equation 34. Pairs are (i, i + K/2) as in LLaMA's published
    weights, or neighbours (2i, 2i + 1) when `traditional`.
    """

    kind: Literal["rope"] = "rope"
    theta: float = Field(10000.0, gt=1)
    """Base of the wavelengths."""
    fraction: float = Field(1.0, gt=0, le=1)
    """Share of each head's features that turn (GPT-J, NeoX, Phi: less than 1)."""
    traditional: bool = False
    """Whether neighbouring features form a pair, as in the paper."""

    def build(self, dim: int, max_seq_len: int) -> "RopePosition":
        return RopePosition(self)


class RopePosition(Position):
    def __init__(self, config: Rope) -> None:
        super().__init__()
        self.config = config

    def inv_freq(self, head_dim: int) -> mx.array:
        """`theta^(-2i/K)` for each turning pair, `[K/2]`.

        Raises:
            RecipeError: the fraction leaves no pair, so that the model would have no positions.
        """
        turning = int(head_dim * self.config.fraction) // 2 * 2
        if turning == 0:
            raise RecipeError(
                f"position.fraction = {self.config.fraction} of a head of {head_dim} features is "
                "less than one pair, so nothing would turn. Raise it, or choose the kind 'none'."
            )
        return mx.array(self.config.theta ** (-np.arange(0, turning, 2) / turning), mx.float32)

    def rotate(self, q: mx.array, k: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        inv_freq = self.inv_freq(q.shape[-1])

        def turn(x: mx.array) -> mx.array:
            return rotate(
                x,
                inv_freq,
                offset=ctx.offset,
                positions=ctx.positions,
                traditional=self.config.traditional,
            )

        return turn(q), turn(k)
