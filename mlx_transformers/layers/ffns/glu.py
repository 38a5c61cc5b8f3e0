"""Gated linear units."""

from typing import ClassVar, Literal, Self

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import xD
from ...ops.glu import glu
from ..kinds import Apply, ExpertKind, LinearFactory
from ..sharding import divide_evenly
from .down import down
from .expert import apply_linear
from .mlp import Activation


class Glu(ExpertKind):
    """A gated feed-forward network: `down(act(gate(x)) · up(x))`.

    Shazeer 2020, "GLU Variants Improve Transformer", equations 5 and 6: GLU (sigmoid), ReGLU
    (relu), GeGLU (gelu), SwiGLU (silu), bilinear (identity).
    """

    projects_first: ClassVar[bool] = True
    kind: Literal["glu"] = "glu"
    hidden_dim: int = Field(ge=1)
    """Width F of gate and value; 2/3 of an mlp's width keeps the parameters equal."""
    activation: Activation
    """The activation function of the gate."""
    bias: bool = False
    """Whether the three linear layers have a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the gated features."""

    def build_experts(self, dim: int, linear: LinearFactory, out: LinearFactory) -> "GluFfn":
        return GluFfn(self, dim, linear, out)

    def part(self, dim: int, n: int) -> Self:
        return self.model_copy(
            update={"hidden_dim": divide_evenly("ffn.hidden_dim", self.hidden_dim, n)}
        )

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, gate and up; the hidden features are recomputed."""
        return float((dim + 2 * self.hidden_dim) * at.itemsize)


class GluFfn(nn.Module):
    """`(x [..., D], ctx) -> [..., D]`."""

    def __init__(self, config: Glu, dim: int, linear: LinearFactory, out: LinearFactory) -> None:
        super().__init__()
        self.activation = config.activation
        self.dropout = config.dropout
        self.gate = linear(dim, config.hidden_dim, bias=config.bias)
        self.up = linear(dim, config.hidden_dim, bias=config.bias)
        self.down = out(config.hidden_dim, dim, bias=config.bias)

    def __call__(self, x: xD, ctx: Context, apply: Apply = apply_linear) -> xD:
        return self.mix([apply(layer, x) for layer in self.projections()], ctx, apply)

    def projections(self) -> list[nn.Module]:
        """The linear layers of the input: gate and value."""
        return [self.gate, self.up]

    def mix(self, projected: list[mx.array], ctx: Context, apply: Apply = apply_linear) -> mx.array:
        """The output for those of `projections`."""

        def gated(gate: mx.array, up: mx.array) -> mx.array:
            return glu(gate, up, self.activation)

        return down(self.down, apply, gated, self.dropout, ctx)(*projected)
