"""Dilated convolution: a mixer that sees a few positions, spread ever wider from layer to layer."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import Pass
from ...ops.unstack import parts
from ...recipe.config import Kind
from ..linear import ResidualLinear

State = dict[str, mx.array]


class Conv(Kind):
    """A causal convolution over positions, with holes: `z_t = Σ_i W_i x_{t - i·d} + b`.

        gated    y = W_o (tanh(z) · σ(z'))      WaveNet: van den Oord et al. 2016, equations 1, 2
        relu     y = W_o max(z, 0)              ByteNet: Kalchbrenner et al. 2016, section 3.4

    Where the dilation d doubles from layer to layer (`pattern`), L layers of kernel 2 see 2^L
    positions. In a pass that is not causal the taps lie on both sides of t (ByteNet's encoder).
    """

    kind: Literal["conv"] = "conv"
    kernel: int = Field(ge=2)
    """Positions that an output depends on (taps)."""
    dilation: int = Field(1, ge=1)
    """Distance d between them."""
    hidden_dim: int | None = Field(None, ge=1)
    """Width F of z; none means dim."""
    unit: Literal["gated", "relu"] = "gated"
    """What follows the convolution."""
    bias: bool = True
    """Whether the convolution has a bias."""

    def build(self, dim: int) -> "ConvMixer":
        return ConvMixer(self, dim)

    def kept(self, dim: int, at: Pass) -> float:
        """The input at every tap, z, and what the unit makes of it."""
        width = self.hidden_dim or dim
        return float((self.kernel * dim + (5 if self.unit == "gated" else 2) * width) * at.width)


class ConvMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; decoding keeps the last `(kernel - 1) · d` inputs."""

    def __init__(self, config: Conv, dim: int) -> None:
        super().__init__()
        self.kernel, self.dilation = config.kernel, config.dilation
        self.gated = config.unit == "gated"
        width = config.hidden_dim or dim
        self.z = nn.Linear(self.kernel * dim, (1 + self.gated) * width, bias=config.bias)
        self.o = ResidualLinear(width, dim, bias=False)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        if ctx.valid is not None:
            x = mx.where(ctx.valid[..., None], x, 0)
        behind = 0 if ctx.causal else (self.kernel - 1) // 2
        taps = [self._tap(x, (i - behind) * self.dilation, ctx) for i in range(self.kernel)]
        return self._unit(mx.concatenate(taps, axis=-1))

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros, which is what stands before a sequence."""
        width = self.z.weight.shape[-1] // self.kernel
        return {"x": mx.zeros((batch, (self.kernel - 1) * self.dilation, width), dtype)}

    def step(self, x: mx.array, state: State, ctx: Context) -> tuple[mx.array, State]:
        """Continue by the T tokens of `x`."""
        if ctx.pad is not None:
            there = mx.arange(x.shape[1]) + ctx.offset >= ctx.pad[:, None]
            x = mx.where(there[..., None], x, 0)
        past, length = state["x"].shape[1], x.shape[1]
        seen = mx.concatenate([state["x"].astype(x.dtype), x], axis=1)
        starts = [past - i * self.dilation for i in range(self.kernel)]
        taps = mx.concatenate([seen[:, at : at + length] for at in starts], axis=-1)
        return self._unit(taps), {"x": seen[:, length:].astype(state["x"].dtype)}

    def _tap(self, x: mx.array, back: int, ctx: Context) -> mx.array:
        """The input `back` positions before each one, zeros where there is none."""
        moved = _moved(x, back)
        if ctx.segments is None or back == 0:
            return moved
        # Documents count from 0; one more, and what stands outside the row is of none of them.
        same = _moved(ctx.segments + 1, back) == ctx.segments + 1
        return mx.where(same[..., None], moved, 0)

    def _unit(self, taps: mx.array) -> mx.array:
        z = self.z(taps)
        if not self.gated:
            return self.o(mx.maximum(z, 0))
        filtered, gate = parts(z, 2)
        return self.o(mx.tanh(filtered) * mx.sigmoid(gate))


def _moved(x: mx.array, back: int) -> mx.array:
    """`y[:, t] = x[:, t - back]`, zeros where that is outside."""
    length = x.shape[1]
    if abs(back) >= length:
        return mx.zeros_like(x)
    around = [(0, 0), (max(back, 0), max(-back, 0)), *[(0, 0)] * (x.ndim - 2)]
    padded = mx.pad(x, around)
    return padded[:, :length] if back >= 0 else padded[:, -length:]
