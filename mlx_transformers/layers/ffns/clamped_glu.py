"""The bounded gated linear unit of gpt-oss."""

from typing import ClassVar, Literal, Self

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import xD
from ..kinds import Apply, ExpertKind, LinearFactory
from ..sharding import divide_evenly
from .down import down
from .expert import apply_linear


class ClampedGlu(ExpertKind):
    """A gated network whose gate and value are bounded: `down(g · sigmoid(s g) · (u + 1))`.

    `g = min(gate(x), limit)` and `u = clip(up(x), ±limit)`; OpenAI 2025, gpt-oss model card,
    section 2.2, and their code: "an unconventional SwiGLU with clamping and a residual".
    """

    projects_first: ClassVar[bool] = True
    kind: Literal["clamped_glu"] = "clamped_glu"
    hidden_dim: int = Field(ge=1)
    """Width F of gate and value."""
    limit: float = Field(7.0, gt=0)
    """The bound of both."""
    slope: float = Field(1.702, gt=0)
    """Factor s inside the sigmoid; with 1.702 the activation is close to a gelu."""
    bias: bool = False
    """Whether the three linear layers have a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the gated features."""

    def build_experts(self, dim: int, linear: LinearFactory, out: LinearFactory) -> "ClampedGluFfn":
        return ClampedGluFfn(self, dim, linear, out)

    def part(self, dim: int, n: int) -> Self:
        return self.model_copy(
            update={"hidden_dim": divide_evenly("ffn.hidden_dim", self.hidden_dim, n)}
        )

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, gate and up; the hidden features are recomputed."""
        return float((dim + 2 * self.hidden_dim) * at.itemsize)


class ClampedGluFfn(nn.Module):
    """`(x [..., D], ctx) -> [..., D]`."""

    def __init__(
        self, config: ClampedGlu, dim: int, linear: LinearFactory, out: LinearFactory
    ) -> None:
        super().__init__()
        self.limit, self.slope, self.dropout = config.limit, config.slope, config.dropout
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
            g = mx.minimum(gate, self.limit)
            u = mx.clip(up, -self.limit, self.limit)
            return g * mx.sigmoid(self.slope * g) * (u + 1)

        return down(self.down, apply, gated, self.dropout, ctx)(*projected)
