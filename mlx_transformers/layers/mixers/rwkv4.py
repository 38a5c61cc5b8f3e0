"""RWKV-4's time mixing."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.wkv import NEVER, empty_state, wkv
from ..kinds import MixerKind, State
from ..linear import ResidualLinear, matrix
from ..parameter import Role
from ..taps import Taps
from ..token_masks import document_starts, real_tokens


class Rwkv4(MixerKind):
    """RWKV-4's time mixing: a mean of values whose weights decay at a rate of each feature.

        r, k, v = W_□ (μ_□ x_t + (1 - μ_□) x_{t-1})
        y_t = W_o (σ(r_t) · wkv_t)

    `wkv` is attention without queries: weights `e^{k_s - (t-1-s) w}`, and `e^{u + k_t}` for the
    token itself. Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era", section 3.1.
    Rates, bonuses and shares start as in the first layer of the published code.
    """

    kind: Literal["rwkv4"] = "rwkv4"
    hidden_dim: int | None = Field(None, ge=2)
    """Features of keys and values; none means dim."""

    def build(self, dim: int) -> "Rwkv4Mixer":
        return Rwkv4Mixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Shifted inputs, r, k and v, and in float32 the sums, their scale, weights and means."""
        width = self.hidden_dim or dim
        return (5 * dim + 3 * width) * at.itemsize + 9 * width * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight: the sums are elementwise."""
        return 0.0


class Rwkv4Mixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is the last input and one weighted mean."""

    roles: ClassVar[dict[str, Role]] = {
        "mix_r": "vector",
        "mix_k": "vector",
        "mix_v": "vector",
        "decay": "own",
        "bonus": "own",
    }

    def __init__(self, config: Rwkv4, dim: int) -> None:
        super().__init__()
        width = config.hidden_dim or dim
        self.shift = Taps(2)
        self.r, self.k, self.v = (nn.Linear(dim, width, bias=False) for _ in range(3))
        self.o = ResidualLinear(width, dim, bias=False)
        share = mx.arange(dim) / dim
        self.mix_r, self.mix_k, self.mix_v = mx.sqrt(share), share, share
        # Logarithms of the rates, slow to fast, and bonuses that differ from feature to feature.
        self.decay = 8 * (mx.arange(width) / (width - 1)) ** 0.7 - 5
        self.bonus = math.log(0.3) + 0.5 * ((mx.arange(width) + 1) % 3 - 1)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        empty = empty_state(x.shape[0], self.decay.shape[0])
        return self._mix(self.shift.read(x, ctx), empty, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """No input and an empty mean, which stays in float32."""
        past = self.shift.init_state(batch, matrix(self.k).shape[-1], dtype)
        return past | {"wkv": empty_state(batch, self.decay.shape[0])}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        taps, after = self.shift.step(x, state, ctx)
        y, mean = self._mix(taps, state["wkv"], ctx)
        return y, after | {"wkv": mean}

    def _mix(
        self, taps: list[mx.array], state: mx.array, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        before, x = taps
        r, k, v = (
            layer(before + (x - before) * share)
            for layer, share in ((self.r, self.mix_r), (self.k, self.mix_k), (self.v, self.mix_v))
        )
        k, decay = k.astype(mx.float32), -mx.exp(self.decay.astype(mx.float32))
        decay = mx.broadcast_to(decay, k.shape)
        real = real_tokens(ctx, x.shape[1])
        if real is not None:
            k, decay = mx.where(real[..., None], k, NEVER), mx.where(real[..., None], decay, 0.0)
        bonus, starts = self.bonus.astype(mx.float32), document_starts(ctx)
        mean, after = wkv(k, v.astype(mx.float32), decay, bonus, state, starts)
        return self.o(mx.sigmoid(r) * mean.astype(r.dtype)), after
