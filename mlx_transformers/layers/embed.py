"""Token embeddings: what the slot `embed` can hold."""

import math
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.footprint import Pass
from ..ops.lookup import lookup
from ..recipe.config import Kind


class TokenEmbed(Kind):
    """A table of vectors, one per token, joined by the position's embedding.

    `x = drop(position.embed(scale · table[tokens]))`; Vaswani et al. 2017, sections 3.4, 5.4.
    """

    kind: Literal["token"] = "token"
    scale: Literal["one", "sqrt_dim"] = "one"
    """`sqrt_dim` multiplies the vectors by √D, as the 2017 transformer and Gemma do."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the sum of token and position embedding."""

    def build(self, vocab_size: int, dim: int) -> "TokenEmbedding":
        return TokenEmbedding(self, vocab_size, dim)

    def kept(self, dim: int, at: Pass) -> float:
        """Of a lookup only the mask of its dropout."""
        return float(dim if self.dropout else 0)


class TokenEmbedding(nn.Module):
    """`(tokens [B, T], ctx) -> [B, T, D]`; `table.as_linear` is the tied head."""

    def __init__(self, config: TokenEmbed, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, dim)
        self.scale = math.sqrt(dim) if config.scale == "sqrt_dim" else 1.0
        self.dropout = config.dropout

    def __call__(self, tokens: mx.array, ctx: Context) -> mx.array:
        x = lookup(self.table.weight, tokens)
        if self.scale != 1.0:
            x = x * self.scale
        return ctx.dropout(ctx.position.embed(x, ctx), self.dropout)
