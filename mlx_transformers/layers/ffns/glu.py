"""Gated linear units: GLU, SwiGLU, GeGLU, ReGLU."""

from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ...ops.glu import glu
from ..kinds import LinearFactory
from .dense import DenseFfn, DenseKind
from .mlp import Activation


class Glu(DenseKind):
    """A gated feed-forward network: `down(act(gate(x)) · up(x))`.

    Shazeer 2020, "GLU Variants Improve Transformer", equations 5 and 6: GLU (sigmoid), ReGLU
    (relu), GeGLU (gelu), SwiGLU (silu), bilinear (identity).
    """

    inputs: ClassVar[tuple[str, ...]] = ("gate", "up")
    kind: Literal["glu"] = "glu"
    hidden_dim: int = Field(ge=1)
    """Width F of gate and value; 2/3 of an mlp's width keeps the parameters equal."""
    activation: Activation
    """The activation function of the gate."""

    def build_experts(self, dim: int, linear: LinearFactory, out: LinearFactory) -> "GluFfn":
        return GluFfn(self, dim, linear, out)


class GluFfn(DenseFfn):
    """`(x [..., D], ctx) -> [..., D]`."""

    def __init__(self, config: Glu, dim: int, linear: LinearFactory, out: LinearFactory) -> None:
        super().__init__(config, dim, linear, out)
        self.activation = config.activation

    def hidden(self, *projected: mx.array) -> mx.array:
        gate, up = projected
        return glu(gate, up, self.activation)
