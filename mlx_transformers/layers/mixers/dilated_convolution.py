"""Dilated convolution over time (WaveNet, ByteNet)."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...ops.unstack import split_last
from ..kinds import MixerKind
from ..linear import ResidualLinear, matrix
from ..taps import State, Taps


class DilatedConvolution(MixerKind):
    """Dilated convolution over time: `z_t = Σ_i W_i x_{t - i·d} + b`, then an activation unit.

        gated    y = W_o (tanh(z) · σ(z'))      WaveNet: van den Oord et al. 2016, equations 1, 2
        relu     y = W_o max(z, 0)              ByteNet: Kalchbrenner et al. 2016, section 3.4

    If the dilation d doubles from layer to layer (`pattern`), L layers of kernel 2 see 2^L
    positions. In a pass that is not causal the taps are centred on t (ByteNet's encoder).
    """

    kind: Literal["dilated_convolution"] = "dilated_convolution"
    kernel: int = Field(ge=2)
    """Positions that each output reads."""
    dilation: int = Field(1, ge=1)
    """Distance d between them."""
    hidden_dim: int | None = Field(None, ge=1)
    """Width F of z; none means dim."""
    unit: Literal["gated", "relu"] = "gated"
    """The activation unit after the convolution."""
    bias: bool = True
    """Whether the convolution has a bias."""

    def build(self, dim: int) -> "DilatedConvolutionMixer":
        return DilatedConvolutionMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """The taps, z, and intermediates of the unit."""
        width = self.hidden_dim or dim
        return float((self.kernel * dim + (5 if self.unit == "gated" else 2) * width) * at.itemsize)

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight."""
        return 0.0


class DilatedConvolutionMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state holds the last `(kernel - 1) · d` inputs."""

    def __init__(self, config: DilatedConvolution, dim: int) -> None:
        super().__init__()
        self.taps = Taps(config.kernel, config.dilation)
        self.gated = config.unit == "gated"
        width = config.hidden_dim or dim
        self.z = nn.Linear(config.kernel * dim, (1 + self.gated) * width, bias=config.bias)
        self.o = ResidualLinear(width, dim, bias=False)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._unit(self.taps.read(x, ctx))

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros in place of the last `(kernel - 1) · d` inputs."""
        return self.taps.init_state(batch, matrix(self.z).shape[-1] // self.taps.kernel, dtype)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        taps, after = self.taps.step(x, state, ctx)
        return self._unit(taps), after

    def _unit(self, taps: list[mx.array]) -> mx.array:
        z = self.z(mx.concatenate(taps, axis=-1))
        if not self.gated:
            return self.o(mx.maximum(z, 0))
        filtered, gate = split_last(z, 2)
        return self.o(mx.tanh(filtered) * mx.sigmoid(gate))
