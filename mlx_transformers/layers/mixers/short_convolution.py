"""A short depthwise convolution between two gates, as a mixer of its own."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...ops.unstack import split_last
from ..kinds import MixerKind, State
from ..linear import ResidualLinear
from ..short_conv import ShortConv


class ShortConvolution(MixerKind):
    """`y = W_o (c · conv(b · x))` with b, c and x from one projection: the gated short convolution.

    LiquidAI 2025, LFM2 (the code of its `Lfm2ShortConv`). Each feature reads a few tokens; the
    decode state holds no more. It reads the past alone in every pass.
    """

    kind: Literal["short_convolution"] = "short_convolution"
    kernel: int = Field(3, ge=1)
    """Tokens that each output reads."""
    bias: bool = False
    """Whether projections and convolution have a bias."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, the three parts, the gated input, its convolution, and the gated output."""
        return 7.0 * dim * at.itemsize

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight."""
        return 0.0

    def build(self, dim: int) -> "ShortConvolutionMixer":
        return ShortConvolutionMixer(self, dim)


class ShortConvolutionMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state holds the last kernel - 1 inputs."""

    def __init__(self, config: ShortConvolution, dim: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(dim, 3 * dim, bias=config.bias)
        self.conv = ShortConv(dim, config.kernel, config.bias)
        self.o = ResidualLinear(dim, dim, bias=config.bias)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        before, after, x = split_last(self.inputs(x), 3)
        y: mx.array = self.o(after * self.conv(before * x, ctx))
        return y

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros in place of the last kernel - 1 inputs."""
        return self.conv.init_state(batch, dtype)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        before, after, x = split_last(self.inputs(x), 3)
        y, state = self.conv.step(before * x, state, ctx)
        return self.o(after * y), state
