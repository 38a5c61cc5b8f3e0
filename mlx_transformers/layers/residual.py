"""Residual connections: one formula, placements as data.

    y = out(skip · x + scale · drop(gain · post(f(pre(x)))))

Each placement owns some of the three norms; the others are the identity.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.footprint import ActivationShape
from ..core.shapes import BTD
from ..recipe.config import Config
from .kinds import NormKind
from .parameter import Role
from .projected import Projected

Placement = Literal["pre", "post", "sandwich", "reordered", "pre_skip"]

NORMS: dict[str, tuple[str, ...]] = {
    "pre": ("pre",),  # GPT-2, LLaMA, T5 (Xiong et al. 2020)
    "post": ("out",),  # Transformer (Vaswani et al. 2017, section 3.1), GPT-1, BERT
    "sandwich": ("pre", "post"),  # CogView, Gemma 2 and 3
    "reordered": ("post",),  # Swin v2, OLMo 2
    "pre_skip": ("pre",),  # BLOOM's option: the skip connection is normalised too
}

RECOMPUTED = ("pre", "sandwich")
"""Placements whose norm before a `Projected` sublayer is computed again in the backward pass."""


class ResidualOptions(Config):
    """The options of a block's residual connections."""

    placement: Placement
    """Placement of the norms: `pre`, `post`, `sandwich`, `reordered` or `pre_skip`."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the output of mixer and ffn, before it joins the residual stream."""
    skip: float = Field(1.0, gt=0)
    """Multiplies the residual stream before a layer's output joins it (DeepNorm's α)."""
    scale: float = Field(1.0, gt=0)
    """Multiplies a layer's output before it joins the residual stream (Granite, MiniCPM)."""
    layer_scale: float | None = Field(None, gt=0)
    """Start of a learned gain of each feature of a layer's output (LayerScale: Touvron et al. 2021,
    CaiT, section 2); none means no gain."""

    def residual_bytes(
        self, norm: NormKind, dim: int, at: ActivationShape, projected: bool = False
    ) -> float:
        """Bytes per token that a connection saves: its norms' inputs, its dropout mask, and the
        sublayer's output before its gain.

        A sublayer that begins with projections (`projected`) counts its input, which then is that
        of the norm before it.
        """
        again = projected and self.placement in RECOMPUTED
        norms = len(NORMS[self.placement]) - (1 if again else 0)
        mask = dim if self.dropout else 0
        gain = 0 if self.layer_scale is None else dim * at.itemsize
        return norms * norm.saved_bytes(dim, at) + mask + gain


class Residual(nn.Module):
    """A residual connection around any function of `[B, T, D]`."""

    def __init__(self, options: ResidualOptions, norm: NormKind, dim: int) -> None:
        super().__init__()
        self.dim, self.dropout = dim, options.dropout
        self.skip, self.scale = options.skip, options.scale
        self.normed_skip = options.placement == "pre_skip"
        self.recomputed = options.placement in RECOMPUTED
        for name in NORMS[options.placement]:
            self[name] = norm.build(dim)
        if options.layer_scale is not None:
            self.gain = mx.full((dim,), options.layer_scale)

    roles: ClassVar[dict[str, Role]] = {"gain": "vector"}

    def norm(self, name: str, x: mx.array) -> mx.array:
        """x through one of the norms, if the placement has it."""
        return self[name](x) if name in self else x

    def __call__(self, x: BTD, f: Callable[[mx.array], mx.array], ctx: Context) -> BTD:
        if isinstance(f, Projected) and self.recomputed:
            return self.join(x, self.norm("post", f.of_norm(self.pre, x)), ctx)
        h = self.before(x)
        return self.join(h if self.normed_skip else x, self.norm("post", f(h)), ctx)

    def before(self, x: BTD) -> BTD:
        """The input of the sublayer, `pre(x)`."""
        return self.norm("pre", x)

    def join(self, x: BTD, y: BTD, ctx: Context) -> BTD:
        """Add the sublayer's output to the stream: `out(skip · x + scale · drop(y))`."""
        return self.norm("out", self.skipped(x) + self.scaled(y, ctx))

    def added(self, x: BTD, f: Callable[[mx.array], mx.array], ctx: Context) -> BTD:
        """The sublayer's term of a stream, `scale · drop(post(f(pre(x))))`."""
        return self.scaled(self.norm("post", f(self.before(x))), ctx)

    def skipped(self, x: mx.array) -> mx.array:
        """The stream in the sum, `skip · x`."""
        return x if self.skip == 1.0 else self.skip * x

    def scaled(self, y: mx.array, ctx: Context) -> mx.array:
        """The sublayer's output in the sum, `scale · drop(y)`."""
        y = ctx.dropout(y * self.gain if "gain" in self else y, self.dropout)
        return ctx.collected.observe("added", y if self.scale == 1.0 else self.scale * y)
