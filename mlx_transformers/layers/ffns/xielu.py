"""The feed-forward network of Apertus, whose activation has two learned slopes."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import xD
from ..kinds import FfnKind
from ..linear import ResidualLinear
from ..parameter import Role
from .down import down
from .expert import apply_linear

START = 0.8
"""Both slopes before training, as in the paper's code."""
TINY = -1e-6
"""Upper bound of the exponential's argument, as in the published code."""


class Xielu(FfnKind):
    """A feed-forward network with xIELU: `down(xielu(up(x)))`, with two learned slopes a and b.

    `a x² + β x` where x > 0, `b (exp(x) - 1 - x) + β x` elsewhere; `a = softplus(α_p)` and
    `b = β + softplus(α_n)` are learned. Huang & Schlag 2024, "Deriving Activation Functions Using
    Integration", equation 13; Apertus (Hernández-Cano et al. 2025), section 2.1.
    """

    kind: Literal["xielu"] = "xielu"
    hidden_dim: int = Field(ge=1)
    """Width F of the hidden features."""
    beta: float = Field(0.5, ge=0, lt=START)
    """The slope at zero, β."""
    bias: bool = False
    """Whether both linear layers have a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the hidden features."""

    def build(self, dim: int) -> "XieluFfn":
        return XieluFfn(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input and hidden features before the activation; those after it are recomputed."""
        return float((dim + self.hidden_dim) * at.itemsize)


class XieluFfn(nn.Module):
    """`(x [..., D], ctx) -> [..., D]`."""

    roles: ClassVar[dict[str, Role]] = {"positive": "vector", "negative": "vector"}

    def __init__(self, config: Xielu, dim: int) -> None:
        super().__init__()
        self.beta, self.dropout = config.beta, config.dropout
        self.up = nn.Linear(dim, config.hidden_dim, bias=config.bias)
        self.down = ResidualLinear(config.hidden_dim, dim, bias=config.bias)
        self.positive = mx.array([math.log(math.expm1(START))])
        self.negative = mx.array([math.log(math.expm1(START - config.beta))])

    def __call__(self, x: xD, ctx: Context) -> xD:
        def xielu(h: mx.array, positive: mx.array, negative: mx.array) -> mx.array:
            a, b = nn.softplus(positive), self.beta + nn.softplus(negative)
            below = b * (mx.expm1(mx.minimum(h, TINY)) - h)
            return mx.where(h > 0, a * h * h, below) + self.beta * h

        positive, negative = (s.astype(x.dtype) for s in (self.positive, self.negative))
        f = down(self.down, apply_linear, xielu, self.dropout, ctx)
        return f(self.up(x), positive, negative)
