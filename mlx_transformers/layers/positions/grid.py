"""Learned positions of the patches of a picture, for pictures of any size."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.errors import RunError
from ...core.shapes import BTD
from ...ops.lookup import lookup
from ...ops.patches import resample_table
from ..kinds import PositionKind
from ..linear import matrix
from .position import Position


class Grid(PositionKind):
    """One learned vector for each patch of a picture, and for each token in front of them.

    ViT (Dosovitskiy et al. 2021), section 3.1. A picture with another number of patches gets the
    table of vectors resampled as a picture (section 3.2).
    """

    kind: Literal["grid"] = "grid"
    rows: int = Field(ge=1)
    """Rows of patches of the table."""
    columns: int = Field(ge=1)
    """Columns of patches of the table."""
    prefix: int = Field(1, ge=0)
    """Tokens in front of the patches that have a position: a class token is one."""
    resample: Literal["bicubic", "bilinear"] = "bicubic"
    """How the table is resampled."""
    antialias: bool = False
    """Whether resampling to fewer patches reads all vectors (DINOv2 with registers)."""

    def build(self, dim: int, max_seq_len: int) -> "GridPosition":
        return GridPosition(self, dim)


class GridPosition(Position):
    """`x + table`, for x of the tokens in front and the patches, row by row."""

    def __init__(self, config: Grid, dim: int) -> None:
        super().__init__()
        self.shape, self.prefix = (config.rows, config.columns), config.prefix
        self.resample, self.antialias = config.resample, config.antialias
        self.table = nn.Embedding(config.prefix + config.rows * config.columns, dim)

    def embed(self, x: BTD, ctx: Context) -> BTD:
        table = matrix(self.table)
        grid = ctx.layout.grid
        if grid is None or grid == self.shape:
            self.admit(x.shape[1])
            return x + lookup(table, self.positions(x.shape[1], ctx))
        if x.shape[1] != self.prefix + grid[0] * grid[1]:
            raise RunError(
                f"position.prefix = {self.prefix} tokens in front of {grid[0]} x {grid[1]} patches "
                f"make another number than the {x.shape[1]} vectors: set it to as many as "
                "model.embed puts there."
            )
        patches = resample_table(
            table[self.prefix :], self.shape, grid, self.resample, antialias=self.antialias
        )
        return x + mx.concatenate([table[: self.prefix], patches.astype(table.dtype)])

    def admit(self, length: int) -> None:
        room = matrix(self.table).shape[0]
        if length > room:
            raise RunError(
                f"{length} vectors have no learned positions beyond {room}: position.rows times "
                "position.columns and position.prefix. Set them to the patches of the picture."
            )
