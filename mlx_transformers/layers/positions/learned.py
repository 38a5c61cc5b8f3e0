"""Learned absolute positions."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.errors import RunError
from ...core.shapes import BTD
from ...ops.lookup import lookup
from ..kinds import PositionKind
from ..linear import matrix
from .position import Position


class Learned(PositionKind):
    """One learned vector per position, added to the embeddings (GPT-1, BERT, GPT-2).

    Gehring et al. 2017, section 3.1. Positions end at `max_seq_len`.
    """

    kind: Literal["learned"] = "learned"
    offset: int = Field(0, ge=0)
    """Unused rows of the table before position 0 (RoBERTa, OPT, BART: 2)."""
    length: int | None = Field(None, ge=1)
    """Positions of the table; none means `max_seq_len` (LED's decoder has fewer)."""
    skips_padding: bool = False
    """Whether positions skip left padding (RoBERTa)."""

    def build(self, dim: int, max_seq_len: int) -> "LearnedPosition":
        return LearnedPosition(self, dim, self.length or max_seq_len)


class LearnedPosition(Position):
    """`x + table[position]`."""

    def __init__(self, config: Learned, dim: int, max_seq_len: int) -> None:
        super().__init__()
        self.offset, self.skips_padding = config.offset, config.skips_padding
        self.table = nn.Embedding(max_seq_len + config.offset, dim)

    def embed(self, x: BTD, ctx: Context) -> BTD:
        self.admit(x.shape[1])
        place = (self.counted if self.skips_padding else self.positions)(x.shape[1], ctx)
        return x + lookup(matrix(self.table), mx.maximum(place + self.offset, 0))

    def admit(self, length: int) -> None:
        # Reading past the end of a table is not an error in MLX, but garbage.
        room = matrix(self.table).shape[0] - self.offset
        if length > room:
            raise RunError(
                f"A sequence of {length} tokens has no learned positions beyond "
                f"{room} (model.max_seq_len, or position.length). Shorten it, or train a model "
                "with a larger one."
            )
