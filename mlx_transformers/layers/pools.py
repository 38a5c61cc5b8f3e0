"""Pools, slot `pool`: one vector, one number, or the logits of one label, for a whole sequence."""

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
    """Logits of `n_classes` for a sequence: `W drop(norm(act(W_p x + b_p))) + b`.

    x is one vector of the sequence.

    BERT's pooler reads the first token and has tanh: Devlin et al. 2018, section 4.1; also for NSP
    (section 3.1) and SOP (Lan et al. 2019, section 3.1).
    """

    kind: Literal["classifier"] = "classifier"
    n_classes: int = Field(ge=1)
    """Classes of a sequence; 1 for regression."""
    reads: Reads = "first"
    """The vector that is read: the first token's, the last token's, or the mean of all."""
    activation: Activation | None = "tanh"
    """Activation after the pooler's linear layer; none means no such layer."""
    map_bias: bool = True
    """Whether the pooler's linear layer has a bias."""
    width: int | None = Field(None, ge=1)
    """Output width of that layer, where it is not the model's (Reformer: half of its input's)."""
    norm: Annotated[NormKind, Slot("norm")] | None = None
    """Normalisation after the pooler's activation (ModernBERT)."""
    bias: bool = True
    """Whether the last linear layer has a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the last linear layer."""

    @model_validator(mode="after")
    def _inside_exists(self) -> "Classifier":
        refuse_without_map(self.activation, self.norm, self.map_bias)
        if self.width is not None and self.activation is None:
            raise ValueError("width has no effect without activation: there is no layer.")
        return self

    def build(self, dim: int) -> "ClassifierModule":
        return ClassifierModule(self, dim)


class Sentence(PoolKind):
    """A vector for a sequence, of length 1 if `normalize`; Reimers & Gurevych 2019, section 3.

    With an `activation` it passes a linear layer first, `act(W x + b)`, like BERT's pooler, which
    has tanh over the first token.
    """

    kind: Literal["sentence"] = "sentence"
    reads: Reads = "mean"
    """The vector that is read: the first token's, the last token's, or the mean of all."""
    activation: Activation | None = None
    """Activation after a linear layer of the vector; none means no such layer."""
    width: int | None = Field(None, ge=1)
    """Output width of that layer, where it is not the model's."""
    normalize: bool = True
    """Whether vectors are scaled to length 1, so that dot products are cosines."""

    @model_validator(mode="after")
    def _width_has_a_map(self) -> "Sentence":
        if self.width is not None and self.activation is None:
            raise ValueError("width has no effect without activation: there is no layer.")
        return self

    def build(self, dim: int) -> "SentenceModule":
        return SentenceModule(self, dim)


class Scalar(PoolKind):
    """A number for a sequence, `w · drop(x) + b`: the reward of a reward model (Ouyang et al. 2022,
    section 3.5); of every position, the value function of an actor-critic policy."""

    kind: Literal["scalar"] = "scalar"
    reads: Reads = "last"
    """The vector that is read: the first token's, the last token's, or the mean of all."""
    bias: bool = True
    """Whether there is a bias b."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the linear layer."""

    def build(self, dim: int) -> "ScalarModule":
        return ScalarModule(self, dim)


def read(x: mx.array, valid: mx.array | None, reads: Reads) -> mx.array:
    """Read one vector `[B, D]` of each row of x `[B, T, D]`; `valid [B, T]` marks padding."""
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
        width = config.width or dim
        if config.activation is not None:
            self.map = nn.Linear(dim, width, bias=config.map_bias)
            self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]
        if config.norm is not None:
            self.norm = config.norm.build(width)
        self.out = nn.Linear(width, config.n_classes, bias=config.bias)

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """The input of the last linear layer, `[B, D]`."""
        h = read(x, ctx.layout.valid, self.reads)
        h = self.activation(self.map(h)) if "map" in self else h
        return self.norm(h) if "norm" in self else h

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.out(ctx.dropout(self.pooled(x, ctx), self.dropout))


class ScalarModule(nn.Module):
    """`(x [B, T, D], ctx) -> [B]`."""

    def __init__(self, config: Scalar, dim: int) -> None:
        super().__init__()
        self.reads, self.dropout = config.reads, config.dropout
        self.out = nn.Linear(dim, 1, bias=config.bias)

    def each(self, x: mx.array, ctx: Context) -> mx.array:
        """The number of every position, `[B, T]`."""
        return self.out(ctx.dropout(x, self.dropout))[..., 0]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.each(read(x, ctx.layout.valid, self.reads), ctx)


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
        # The square root has no derivative at zero.
        return h * mx.rsqrt((h * h).sum(axis=-1, keepdims=True) + 1e-12) if self.normalize else h
