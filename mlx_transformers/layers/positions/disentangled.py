"""Relative positions of disentangled attention."""

import math
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...recipe.slot import Slot
from ..kinds import NormKind, PositionKind
from ..linear import matrix
from .learned import Learned, LearnedPosition
from .position import Position


class Disentangled(PositionKind):
    """A learned vector for each relative position `t - s` in -R ... R - 1, read by the mixers.

    He et al. 2020 (DeBERTa), equation 3. Farther tokens share the outermost rows. With a
    `max_distance` distances beyond R/2 share logarithmically wider rows, as in He et al. 2021
    (DeBERTaV3): their code, `make_log_bucket_position`.
    """

    kind: Literal["disentangled"] = "disentangled"
    span: int = Field(ge=2)
    """Relative positions R to either side; the table has 2R rows."""
    max_distance: int | None = Field(None, ge=3)
    """Distance where the last of the wider rows begins; none means one distance per row."""
    norm: Annotated[NormKind, Slot("norm")] | None = None
    """Normalisation of the table before mixers read it (DeBERTa v2: layer_norm)."""
    width: int | None = Field(None, ge=1)
    """Width of the table, if not that of the embeddings."""
    absolute: bool = False
    """Whether learned absolute positions are added to the embeddings as well."""

    @model_validator(mode="after")
    def _rows_widen(self) -> "Disentangled":
        if self.max_distance is not None and self.max_distance - 1 <= self.span // 2:
            raise ValueError(
                f"max_distance = {self.max_distance} is within the {self.span // 2} distances that "
                "have rows of their own. Make it larger, or unset it."
            )
        return self

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """The normalised table."""
        rows = 0 if self.norm is None else 2 * self.span
        return rows * (self.width or dim) * at.itemsize / at.tokens

    def flops(self, dim: int, length: int) -> float:
        """Queries and keys with every row of the table: `2 · D · 2R` each."""
        return 8.0 * dim * self.span

    def build(self, dim: int, max_seq_len: int) -> "DisentangledPosition":
        return DisentangledPosition(self, dim, max_seq_len)


class DisentangledPosition(Position):
    """A table `[2R, D]` of relative positions, and the row of each pair (`relative`)."""

    def __init__(self, config: Disentangled, dim: int, max_seq_len: int) -> None:
        super().__init__()
        self.span, self.max_distance = config.span, config.max_distance
        self.table = nn.Embedding(2 * config.span, config.width or dim)
        if config.norm is not None:
            self.norm = config.norm.build(config.width or dim)
        if config.absolute:
            self.absolute = LearnedPosition(Learned(), dim, max_seq_len)

    def embed(self, x: BTD, ctx: Context) -> BTD:
        return self.absolute.embed(x, ctx) if "absolute" in self else x

    def admit(self, length: int) -> None:
        if "absolute" in self:
            self.absolute.admit(length)

    def relative(self, q_pos: mx.array, k_pos: mx.array) -> tuple[mx.array, mx.array]:
        """The table `[2R, D]`, and which of its rows is `q_pos [T]` less `k_pos [S]`: `[T, S]`."""
        offset = q_pos[:, None] - k_pos[None, :]
        if self.max_distance is not None:
            wide = mx.array(log_rows(self.span, self.max_distance))
            offset = mx.sign(offset) * lookup_row(wide, mx.abs(offset))
        rows = mx.clip(offset + self.span, 0, 2 * self.span - 1)
        table = matrix(self.table)
        return self.norm(table) if "norm" in self else table, rows


def lookup_row(rows: mx.array, distance: mx.array) -> mx.array:
    """The row of each distance; distances beyond the last share it."""
    return mx.take(rows, mx.minimum(distance, rows.size - 1))


def log_rows(span: int, max_distance: int) -> np.ndarray:
    """The row of each distance from 0 to `max_distance`, from which on it is the last one's.

    Up to half the span, m, a row is a distance; then `m + ⌈(m - 1) · log(d/m) / log((M - 1)/m)⌉`.
    """
    half = span // 2
    distance = np.arange(max_distance + 1)
    share = np.log(np.maximum(distance, half) / half) / math.log((max_distance - 1) / half)
    # Integers in exact arithmetic must not be rounded up.
    wide = np.ceil(share * (half - 1) - 1e-9) + half
    return np.where(distance <= half, distance, wide).astype(np.int32)
