"""RWKV's channel mixing: a feed-forward network that reads the previous token too."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ..kinds import RecurrentFfnKind, State
from ..linear import ResidualLinear
from ..parameter import Role
from ..taps import Taps


class ChannelMixing(RecurrentFfnKind):
    """RWKV's channel mixing: `σ(W_r x^r) · W_v max(W_k x^k, 0)²`, x^□ mixed with the last token.

    `x^□_t = μ_□ x_t + (1 - μ_□) x_{t-1}`: Peng et al. 2023 (RWKV-4), equations 18 and 19. RWKV-5
    and 6 are the same with `1 - μ` as the parameter; RWKV-7 has no receptance σ(W_r x^r).
    """

    kind: Literal["channel_mixing"] = "channel_mixing"
    hidden_dim: int = Field(ge=1)
    """Width F of the hidden features."""
    receptance: bool = True
    """Whether the output is gated by the receptance."""

    def build(self, dim: int) -> "ChannelMixingFfn":
        return ChannelMixingFfn(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, its neighbours, hidden features before and after the square, and the gate."""
        gate = 4 * dim if self.receptance else 0
        return float((3 * dim + 3 * self.hidden_dim + gate) * at.itemsize)


class ChannelMixingFfn(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state is the last input."""

    roles: ClassVar[dict[str, Role]] = {"mix_k": "vector", "mix_r": "vector"}

    def __init__(self, config: ChannelMixing, dim: int) -> None:
        super().__init__()
        self.dim, self.shift = dim, Taps(2)
        self.k = nn.Linear(dim, config.hidden_dim, bias=False)
        self.v = ResidualLinear(config.hidden_dim, dim, bias=False)
        self.mix_k = mx.arange(dim) / dim
        if config.receptance:
            self.r = nn.Linear(dim, dim, bias=False)
            self.mix_r = mx.arange(dim) / dim

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._mix(self.shift.read(x, ctx))

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros in place of the last input."""
        return self.shift.init_state(batch, self.dim, dtype)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        taps, after = self.shift.step(x, state, ctx)
        return self._mix(taps), after

    def _mix(self, taps: list[mx.array]) -> mx.array:
        before, x = taps
        hidden = mx.maximum(self.k(before + (x - before) * self.mix_k), 0)
        y = self.v(hidden * hidden)
        if "r" not in self:
            return y
        return mx.sigmoid(self.r(before + (x - before) * self.mix_r)) * y
