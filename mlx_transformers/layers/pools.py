"""Pools: what the slot `pool` can hold. They make one answer of a whole sequence."""

from collections.abc import Callable
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..ops.activations import ACTIVATIONS
from ..recipe.slot import Slot
from .ffns.mlp import Activation
from .heads import refuse_without_map
from .kinds import NormKind, PoolKind

Reads = Literal["first", "last", "mean"]


class Classifier(PoolKind):
    """Logits of `n_classes` for a sequence: `W drop(norm(act(W_p x + b_p))) + b`, x one vector.

    BERT's pooler reads the first token and has tanh: Devlin et al. 2018, section 4.1; the same for
    two sentences in their order (NSP, section 3.1; SOP, Lan et al. 2019, section 3.1).
    """

    kind: Literal["classifier"] = "classifier"
    n_classes: int = Field(ge=1)
    """Classes of a sequence; 1 for a number."""
    reads: Reads = "first"
    """Which vector of the sequence: its first token's, its last one's, or the mean of all."""
    activation: Activation | None = "tanh"
    """What follows the pooler's map; none means there is no such map."""
    map_bias: bool = True
    """Whether the pooler's map has a bias."""
    norm: Annotated[NormKind, Slot("norm")] | None = None
    """The normalisation of what that map gives (ModernBERT)."""
    bias: bool = True
    """Whether the last map has a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on what the last map reads."""

    @model_validator(mode="after")
    def _inside_exists(self) -> "Classifier":
        refuse_without_map(self.activation, self.norm, self.map_bias)
        return self

    def build(self, dim: int) -> "ClassifierModule":
        return ClassifierModule(self, dim)


class Sentence(PoolKind):
    """A vector for a sequence, of length 1 if `normalize`; Reimers & Gurevych 2019, section 3.

    With an `activation` it passes a map first, `act(W x + b)`: BERT's pooler has tanh over the
    first token.
    """

    kind: Literal["sentence"] = "sentence"
    reads: Reads = "mean"
    """Which vector of the sequence: its first token's, its last one's, or the mean of all."""
    activation: Activation | None = None
    """What follows a map of the vector; none means there is no map."""
    width: int | None = Field(None, ge=1)
    """Width of what that map gives, where it is not the model's."""
    normalize: bool = True
    """Whether vectors are divided by their length, so that a product is a cosine."""

    @model_validator(mode="after")
    def _width_has_a_map(self) -> "Sentence":
        if self.width is not None and self.activation is None:
            raise ValueError("width has no effect without activation: there is no map.")
        return self

    def build(self, dim: int) -> "SentenceModule":
        return SentenceModule(self, dim)


def read(x: mx.array, valid: mx.array | None, reads: Reads) -> mx.array:
    """One vector `[B, D]` of each row of x `[B, T, D]`, of which only `valid [B, T]` exist."""
    if reads == "first":
        return x[:, 0]
    if valid is None:
        return x[:, -1] if reads == "last" else x.mean(axis=1)
    if reads == "mean":
        share = valid.astype(x.dtype)[..., None]
        return (x * share).sum(axis=1) / mx.maximum(share.sum(axis=1), 1)
    last = mx.where(valid, mx.arange(x.shape[1]), 0).max(axis=1)
    return mx.take_along_axis(x, last[:, None, None], axis=1)[:, 0]


class ClassifierModule(nn.Module):
    """`(x [B, T, D], ctx) -> [B, n_classes]`."""

    def __init__(self, config: Classifier, dim: int) -> None:
        super().__init__()
        self.reads, self.dropout = config.reads, config.dropout
        if config.activation is not None:
            self.map = nn.Linear(dim, dim, bias=config.map_bias)
            self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]
        if config.norm is not None:
            self.norm = config.norm.build(dim)
        self.out = nn.Linear(dim, config.n_classes, bias=config.bias)

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """What the last map reads, `[B, D]`."""
        h = read(x, ctx.layout.valid, self.reads)
        h = self.activation(self.map(h)) if "map" in self else h
        return self.norm(h) if "norm" in self else h

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.out(ctx.dropout(self.pooled(x, ctx), self.dropout))


class SentenceModule(nn.Module):
    """`(x [B, T, D], ctx) -> [B, width]`."""

    def __init__(self, config: Sentence, dim: int) -> None:
        super().__init__()
        self.reads, self.normalize = config.reads, config.normalize
        if config.activation is not None:
            self.map = nn.Linear(dim, config.width or dim)
            self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        h = read(x, ctx.layout.valid, self.reads)
        h = self.activation(self.map(h)) if "map" in self else h
        # The root of zero has no slope.
        return h * mx.rsqrt((h * h).sum(axis=-1, keepdims=True) + 1e-12) if self.normalize else h
