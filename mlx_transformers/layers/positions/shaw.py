"""Relative position keys (Shaw et al.)."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.score_bias import DistanceBias
from ...ops.lookup import lookup, read_pairs
from ..kinds import PositionKind
from ..linear import matrix
from .position import Position, check_heads, per_token


class Shaw(PositionKind):
    """A learned key for each relative position, added to the key of the token.

    `score(t, s) = q_t · (k_s + a[clip(s - t, -R, R)])`; Shaw, Uszkoreit, Vaswani 2018, equations 4
    and 5. The paper's relative values (equation 3) are not built: its ablation found that keys may
    suffice (section 4.3).
    The paper's base model has a table for each layer and head: `model.block.position`, `shared`.
    """

    kind: Literal["shaw"] = "shaw"
    adds_to_scores: ClassVar[bool] = True
    span: int = Field(16, ge=1)
    """Largest distance R with a key of its own; the table has 2R + 1 rows."""
    n_heads: int = Field(ge=1)
    """Query heads H of the mixers."""
    head_dim: int | None = Field(None, ge=1)
    """Width K of a head; none means dim / n_heads."""
    shared: bool = True
    """Whether all heads read one table; otherwise each has its own."""

    def width(self, dim: int) -> int:
        """Width K of a head of queries."""
        return self.head_dim or dim // self.n_heads

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """The keys of all distances."""
        return per_token((1 if self.shared else self.n_heads) * self.width(dim), at)

    def flops(self, dim: int, length: int) -> float:
        """Queries with the key of each distance that they see: `2 · H · K` each."""
        return self.n_heads * self.width(dim) * (length + 1.0)

    def build(self, dim: int, max_seq_len: int) -> "ShawPosition":
        return ShawPosition(self, dim)


class ShawPosition(Position):
    """`scores + q · table[distance]`: one product of queries and table, then a gather by pair."""

    def __init__(self, config: Shaw, dim: int) -> None:
        super().__init__()
        self.span = config.span
        self.n_heads, self.head_dim = config.n_heads, config.width(dim)
        self.tables = 1 if config.shared else config.n_heads
        self.table = nn.Embedding(self.tables * (2 * config.span + 1), self.head_dim)

    def distance_bias(self, q: mx.array, k: mx.array, ctx: Context) -> DistanceBias:
        check_heads(q, self.n_heads, self.head_dim)
        rows = mx.clip(self.ahead(q.shape[2]), -self.span, self.span) + self.span
        tables = mx.arange(self.tables)[:, None] * (2 * self.span + 1)
        return DistanceBias(keys=lookup(matrix(self.table), tables + rows))

    def bias(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: Context
    ) -> mx.array:
        check_heads(q, self.n_heads, self.head_dim)
        keys = matrix(self.table).reshape(self.tables, -1, self.head_dim)
        ahead = mx.clip(k_pos[None, :] - q_pos[:, None], -self.span, self.span)
        return read_pairs(q @ keys.swapaxes(-1, -2), ahead + self.span)
