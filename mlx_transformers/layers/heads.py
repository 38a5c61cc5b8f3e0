"""Heads: what the slot `head` can hold."""

from dataclasses import dataclass
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..recipe.config import Kind
from .embed import TokenEmbedding


class LmHead(Kind):
    """Logits over the vocabulary: `softcap(h Wᵀ + b)`.

    Tied weights: Press & Wolf 2017. The soft cap `c · tanh(logits / c)` is Gemma 2's.
    """

    kind: Literal["lm"] = "lm"
    tied: bool
    """Whether W is the embedding table itself."""
    bias: bool = False
    """Whether a bias per token is learned."""
    softcap: float | None = Field(None, gt=0)
    """The bound c of the logits; none leaves them unbounded."""

    def build(self, vocab_size: int, dim: int) -> "LmHeadModule":
        return LmHeadModule(self, vocab_size, dim)


@dataclass(frozen=True)
class Unembedding:
    """The linear map from hidden vectors to logits, for losses that never hold all logits."""

    weight: mx.array  # [V, D]
    bias: mx.array | None  # [V]
    softcap: float | None


class LmHeadModule(nn.Module):
    """`(h [B, T, D], embedding) -> [B, T, V]`."""

    def __init__(self, config: LmHead, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.softcap = config.softcap
        if not config.tied:
            self.weight = mx.zeros((vocab_size, dim))
        if config.bias:
            self.bias = mx.zeros((vocab_size,))

    def unembedding(self, embedding: TokenEmbedding) -> Unembedding:
        """The weights of this head, the embedding's own where they are tied."""
        weight = self.weight if "weight" in self else embedding.table.weight
        return Unembedding(weight, self.get("bias"), self.softcap)

    def __call__(self, h: mx.array, embedding: TokenEmbedding) -> mx.array:
        w = self.unembedding(embedding)
        logits = h @ w.weight.T
        if w.bias is not None:
            logits = logits + w.bias
        if w.softcap is not None:
            logits = w.softcap * mx.tanh(logits / w.softcap)
        return logits
