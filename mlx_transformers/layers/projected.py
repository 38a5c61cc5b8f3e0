"""Sublayers that begin with linear layers, whose normalised input is not saved for the backward."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..core.recompute import recompute


@dataclass(frozen=True)
class Projected:
    """A mixer or an ffn that is `mix` of the outputs of its `projections`.

    Attributes:
        module: a module with `projections()`, the linear layers that read its input, and
            `mix(projected, ctx)`.
        ctx: the context of the pass.
    """

    module: Any
    ctx: Context

    def __call__(self, h: mx.array) -> mx.array:
        out: mx.array = self.module(h, self.ctx)
        return out

    def of_norm(self, norm: nn.Module, x: mx.array) -> mx.array:
        """`self(norm(x))`, which saves x and computes the norm again for the gradients of the
        projections; the projections themselves are not computed again."""
        layers = self.module.projections()

        def project(x: mx.array) -> list[mx.array]:
            h = norm(x)
            return [layer(h) for layer in layers]

        out: mx.array = self.module.mix(recompute([norm, *layers], project)(x), self.ctx)
        return out
