"""Learned absolute positions."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context
from ...recipe.config import Kind
from .position import Position


class Learned(Kind):
    """One learned vector per position, added to the embeddings (GPT-1, BERT, GPT-2).

    Gehring et al. 2017, section 3.1. Positions end at `max_seq_len`.
    """

    kind: Literal["learned"] = "learned"

    def build(self, dim: int, max_seq_len: int) -> "LearnedPosition":
        return LearnedPosition(dim, max_seq_len)


class LearnedPosition(Position):
    def __init__(self, dim: int, max_seq_len: int) -> None:
        super().__init__()
        self.table = nn.Embedding(max_seq_len, dim)

    def embed(self, x: mx.array, ctx: Context) -> mx.array:
        return x + self.table(self.positions(x.shape[1], ctx))
