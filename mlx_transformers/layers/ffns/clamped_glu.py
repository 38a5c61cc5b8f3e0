"""The bounded gated linear unit of gpt-oss."""

from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..kinds import LinearFactory
from .dense import DenseFfn, DenseKind


class ClampedGlu(DenseKind):
    """A gated network whose gate and value are bounded: `down(g · sigmoid(s g) · (u + 1))`.

    `g = min(gate(x), limit)` and `u = clip(up(x), ±limit)`; OpenAI 2025, gpt-oss model card,
    section 2.2, and their code: "an unconventional SwiGLU with clamping and a residual".
    """

    inputs: ClassVar[tuple[str, ...]] = ("gate", "up")
    kind: Literal["clamped_glu"] = "clamped_glu"
    limit: float = Field(7.0, gt=0)
    """The bound of both."""
    slope: float = Field(1.702, gt=0)
    """Factor s inside the sigmoid; with 1.702 the activation is close to a gelu."""

    def build_experts(self, dim: int, linear: LinearFactory, out: LinearFactory) -> "ClampedGluFfn":
        return ClampedGluFfn(self, dim, linear, out)


class ClampedGluFfn(DenseFfn):
    """`(x [..., D], ctx) -> [..., D]`."""

    def __init__(
        self, config: ClampedGlu, dim: int, linear: LinearFactory, out: LinearFactory
    ) -> None:
        super().__init__(config, dim, linear, out)
        self.limit, self.slope = config.limit, config.slope

    def hidden(self, *projected: mx.array) -> mx.array:
        gate, up = projected
        g = mx.minimum(gate, self.limit)
        u = mx.clip(up, -self.limit, self.limit)
        return g * mx.sigmoid(self.slope * g) * (u + 1)
