"""Residual connections: one formula, placements as data.

    y = out(skip · x + scale · drop(gain · post(f(pre(x)))))

Each placement owns some of the three norms; the others are the identity.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..core.footprint import ActivationShape
from ..core.shapes import BTD
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


def residual_saved_bytes(
    norm: NormKind,
    placement: Placement,
    dropout: float,
    dim: int,
    at: ActivationShape,
    projected: bool = False,
) -> float:
    """Bytes per token that a residual connection saves: its norms' inputs and its dropout mask.

    A sublayer that begins with projections (`projected`) counts its input, which then is that of
    the norm before it.
    """
    again = projected and placement in RECOMPUTED
    norms = len(NORMS[placement]) - (1 if again else 0)
    return norms * norm.saved_bytes(dim, at) + (dim if dropout else 0)


class Residual(nn.Module):
    """A residual connection around any function of `[B, T, D]`."""

    def __init__(
        self,
        dim: int,
        norm: NormKind,
        placement: Placement,
        dropout: float,
        skip: float = 1.0,
        scale: float = 1.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.dropout, self.skip, self.scale = dim, dropout, skip, scale
        self.normed_skip = placement == "pre_skip"
        self.recomputed = placement in RECOMPUTED
        for name in NORMS[placement]:
            self[name] = norm.build(dim)
        if layer_scale is not None:
            self.gain = mx.full((dim,), layer_scale)

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
