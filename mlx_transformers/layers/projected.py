"""Sublayers that begin with linear layers, whose normalised input is not saved for the backward."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..core.recompute import recompute


class ProjectsFirst(Protocol):
    """A mixer or an ffn that is `mix` of the outputs of its `projections`."""

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        """The output for an input `[B, T, D]`."""

    def projections(self) -> Sequence[nn.Module]:
        """The linear layers that read the input."""

    def mix(self, projected: list[mx.array], ctx: Context) -> mx.array:
        """The output for those of `projections`."""


@dataclass(frozen=True)
class Projected:
    """A sublayer in one pass.

    Attributes:
        module: the mixer or the ffn.
        ctx: the context of the pass.
    """

    module: ProjectsFirst
    ctx: Context

    def __call__(self, h: mx.array) -> mx.array:
        return self.module(h, self.ctx)

    def of_norm(self, norm: nn.Module, x: mx.array) -> mx.array:
        """`self(norm(x))`, which saves x and computes the norm again for the gradients of the
        projections; the projections themselves are not computed again."""
        layers = self.module.projections()

        def project(x: mx.array) -> list[mx.array]:
            h = norm(x)
            return [layer(h) for layer in layers]

        return self.module.mix(recompute([norm, *layers], project)(x), self.ctx)
