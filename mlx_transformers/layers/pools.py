"""Pools, slot `pool`: one vector, one number, or the logits of one label, for a whole sequence."""

from collections.abc import Callable
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.errors import RecipeError
from ..ops.activations import ACTIVATIONS
from ..recipe.slot import Slot
from .ffns.mlp import Activation
from .heads import refuse_without_map
from .kinds import NormKind, PoolKind

Reads = Literal["first", "last", "final", "mean", "first_mean", "end"]
"""The vector that a pool reads, as in `ReadingPool`; `first_mean` is twice as wide."""


class ReadingPool(PoolKind):
    """Fields of a pool that reads one vector of a sequence."""

    reads: Reads
    """The vector that is read: `first`, `last`, `final`, the last even if it is padding (SigLIP),
    `mean` of all, `first_mean`, the first beside the mean of the others (DINOv2), or `end`, the
    place that the model's end token marks (CLIP)."""
    skip: int = Field(0, ge=0)
    """Vectors in front that `mean` and `first_mean` leave out, such as a picture's registers."""

    @model_validator(mode="after")
    def _skip_leaves_vectors_out(self) -> "ReadingPool":
        if self.skip and self.reads not in ("mean", "first_mean"):
            raise ValueError("skip goes with reads = 'mean' or 'first_mean': unset it.")
        return self


class Classifier(ReadingPool):
    """Logits of `n_classes` for a sequence: `W drop(norm(act(W_p x + b_p))) + b`.

    x is one vector of the sequence.

    BERT's pooler reads the first token and has tanh: Devlin et al. 2018, section 4.1; also for NSP
    (section 3.1) and SOP (Lan et al. 2019, section 3.1).
    """

    kind: Literal["classifier"] = "classifier"
    n_classes: int = Field(ge=1)
    """Classes of a sequence; 1 for regression."""
    reads: Reads = "first"
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


class Sentence(ReadingPool):
    """A vector for a sequence, of length 1 if `normalize`; Reimers & Gurevych 2019, section 3.

    With an `activation` it passes a linear layer first, `act(W x + b)`, like BERT's pooler, which
    has tanh over the first token.
    """

    kind: Literal["sentence"] = "sentence"
    reads: Reads = "mean"
    norm: Annotated[NormKind, Slot("norm")] | None = None
    """Normalisation of the vector that is read (CLIP's vision tower)."""
    activation: Activation | None = None
    """Activation after a linear layer of the vector; none means no such layer."""
    width: int | None = Field(None, ge=1)
    """Output width of that layer, where it is not the model's."""
    map_bias: bool = True
    """Whether that layer has a bias (CLIP's projections have none)."""
    normalize: bool = True
    """Whether vectors are scaled to length 1, so that dot products are cosines."""

    @model_validator(mode="after")
    def _width_has_a_map(self) -> "Sentence":
        if self.activation is None and (self.width is not None or not self.map_bias):
            raise ValueError(
                "width and map_bias have no effect without activation: there is no layer."
            )
        return self

    def build(self, dim: int) -> "SentenceModule":
        return SentenceModule(self, dim)


class Scalar(PoolKind):
    """A number for a sequence, `w · drop(x) + b`: the reward of a reward model (Ouyang et al. 2022,
    section 3.5); of every position, the value function of an actor-critic policy."""

    kind: Literal["scalar"] = "scalar"
    reads: Reads = "last"
    """The vector that is read, as in `classifier`."""
    bias: bool = True
    """Whether there is a bias b."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the linear layer."""

    def build(self, dim: int) -> "ScalarModule":
        return ScalarModule(self, dim)


def width_read(reads: Reads, dim: int) -> int:
    """Width of the vector that is read, for vectors of width `dim`."""
    return 2 * dim if reads == "first_mean" else dim


def read(x: mx.array, ctx: Context, reads: Reads, skip: int = 0) -> mx.array:
    """Read one vector `[B, D]` of each row of x `[B, T, D]`; `ctx.layout` marks padding and ends.

    Raises:
        RecipeError: no place stands for a row.
    """
    valid, ends = ctx.layout.valid, ctx.layout.ends
    if reads == "first":
        return x[:, 0]
    if reads == "final":
        return x[:, -1]
    if reads == "end":
        if ends is None:
            raise RecipeError(
                "pool.reads = 'end' reads the place of the model's end token, and there is none: "
                "set model.end_token, or choose another of pool.reads."
            )
        return mx.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]
    if reads == "first_mean":
        mean = read(x, ctx, "mean", max(skip, 1))
        return mx.concatenate([x[:, 0], mean], axis=-1)
    if skip:
        x, valid = x[:, skip:], None if valid is None else valid[:, skip:]
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
        self.reads, self.skip, self.dropout = config.reads, config.skip, config.dropout
        dim = width_read(config.reads, dim)
        width = dim if config.activation is None else config.width or dim
        if config.activation is not None:
            self.map = nn.Linear(dim, width, bias=config.map_bias)
            self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]
        if config.norm is not None:
            self.norm = config.norm.build(width)
        self.out = nn.Linear(width, config.n_classes, bias=config.bias)

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """The input of the last linear layer, `[B, D]`."""
        h = read(x, ctx, self.reads, self.skip)
        h = self.activation(self.map(h)) if "map" in self else h
        return self.norm(h) if "norm" in self else h

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.out(ctx.dropout(self.pooled(x, ctx), self.dropout))


class ScalarModule(nn.Module):
    """`(x [B, T, D], ctx) -> [B]`."""

    def __init__(self, config: Scalar, dim: int) -> None:
        super().__init__()
        self.reads, self.dropout = config.reads, config.dropout
        self.out = nn.Linear(width_read(config.reads, dim), 1, bias=config.bias)

    def each(self, x: mx.array, ctx: Context) -> mx.array:
        """The number of every position, `[B, T]`."""
        return self.out(ctx.dropout(x, self.dropout))[..., 0]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        return self.each(read(x, ctx, self.reads), ctx)


class SentenceModule(nn.Module):
    """`(x [B, T, D], ctx) -> [B, width]`."""

    def __init__(self, config: Sentence, dim: int) -> None:
        super().__init__()
        self.reads, self.skip, self.normalize = config.reads, config.skip, config.normalize
        dim = width_read(config.reads, dim)
        if config.norm is not None:
            self.norm = config.norm.build(dim)
        if config.activation is not None:
            self.map = nn.Linear(dim, config.width or dim, bias=config.map_bias)
            self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        h = read(x, ctx, self.reads, self.skip)
        h = self.norm(h) if "norm" in self else h
        h = self.activation(self.map(h)) if "map" in self else h
        # The square root has no derivative at zero.
        return h * mx.rsqrt((h * h).sum(axis=-1, keepdims=True) + 1e-12) if self.normalize else h
