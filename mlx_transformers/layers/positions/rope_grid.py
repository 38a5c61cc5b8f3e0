"""Rotary positions of the patches of a picture."""

from typing import Literal

import mlx.core as mx
from pydantic import Field

from ...core.context import Context
from ...ops.rotary import rotate_by
from ...ops.rotary_grid import grid_angles, grid_positions
from ..kinds import PositionKind
from .position import Position


class RopeGrid(PositionKind):
    """Rotary positions of rows and columns: half of each head's pairs turn by either.

    Qwen2-VL's vision tower (Wang et al. 2024, section 2.1), Pixtral (Agrawal et al. 2024), EVA-02
    (Fang et al. 2023). Tokens in front of the patches are not rotated.
    """

    kind: Literal["rope_grid"] = "rope_grid"
    theta: float = Field(10000.0, gt=1)
    """Base of the wavelengths."""
    alternate: bool = False
    """Whether rows and columns take the even and the odd of one sequence of frequencies (Pixtral)
    rather than the same ones."""

    def build(self, dim: int, max_seq_len: int) -> "RopeGridPosition":
        return RopeGridPosition(self)


class RopeGridPosition(Position):
    """Rotates queries and keys by row and column; a sequence that is no picture is one row."""

    def __init__(self, config: RopeGrid) -> None:
        super().__init__()
        self.theta, self.alternate = config.theta, config.alternate

    def rotate(self, q: mx.array, k: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        angles = self._angles(q.shape[2], q.shape[-1], ctx)
        return rotate_by(q, angles), rotate_by(k, angles)

    def _angles(self, length: int, width: int, ctx: Context) -> mx.array:
        """`[T, K/2]`, or `[B, 1, T, K/2]` where rows of the batch differ."""
        grid = ctx.layout.grid
        if grid is None:
            place = self.positions(length, ctx)
            places = mx.stack([mx.zeros_like(place), place], axis=-1)
        else:
            patches = grid_positions(*grid)
            front = mx.zeros((length - patches.shape[0], 2), patches.dtype)
            places = mx.concatenate([front, patches])
        angles = grid_angles(places, width, self.theta, alternate=self.alternate)
        return angles[:, None] if angles.ndim == 3 else angles
