"""The recurrent block of Griffin: a short convolution and a real-gated linear recurrent unit."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.activations import ACTIVATIONS
from ...ops.rg_lru import rg_lru
from ..block_linear import BlockLinear
from ..ffns.mlp import Activation
from ..kinds import MixerKind, State
from ..linear import ResidualLinear
from ..parameter import Role
from ..short_conv import ShortConv
from ..token_masks import first_tokens, real_tokens


class RgLru(MixerKind):
    """Griffin's recurrent block, around a real-gated linear recurrent unit (RG-LRU).

        y = W_o (act(W_y x) · h)          h = RG-LRU(conv(W_x x))
        a_t = exp(-8 softplus(Λ) σ(W_a u_t))          h_t = a_t h_{t-1} + √(1 - a_t²) σ(W_i u_t) u_t

    De et al. 2024, "Griffin: Mixing Gated Linear Recurrences with Local Attention", section 2.4.
    W_a and W_i are block-diagonal. The rates start where `a^8` is uniform between 0.9 and 0.999.
    """

    kind: Literal["rg_lru"] = "rg_lru"
    n_heads: int = Field(ge=1)
    """Blocks of the gates' matrices."""
    hidden_dim: int | None = Field(None, ge=1)
    """Features of the recurrence; none means dim."""
    conv: int = Field(4, ge=1)
    """Tokens that the convolution reads."""
    activation: Activation = "gelu_tanh"
    """The activation of the branch beside the recurrence."""
    bias: bool = True
    """Whether the three linear layers have a bias."""

    def build(self, dim: int) -> "RgLruMixer":
        width = self.hidden_dim or dim
        if width % self.n_heads:
            field = "mixer.hidden_dim" if self.hidden_dim else "model.dim"
            raise RecipeError(
                f"mixer.n_heads = {self.n_heads} does not divide {field} = {width}: every block "
                "of the gates has as many features. Choose a divisor."
            )
        return RgLruMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, both branches, the recurrence's inputs in float32, and what the output reads."""
        width = self.hidden_dim or dim
        return (dim + 8 * width) * at.itemsize + 2 * width * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight: the recurrence is elementwise."""
        return 0.0


class RgLruMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is one vector and the convolution's inputs."""

    roles: ClassVar[dict[str, Role]] = {"rate": "own"}

    def __init__(self, config: RgLru, dim: int) -> None:
        super().__init__()
        width = config.hidden_dim or dim
        self.activation = ACTIVATIONS[config.activation]
        self.x, self.y = (nn.Linear(dim, width, bias=config.bias) for _ in range(2))
        self.conv = ShortConv(width, config.conv, bias=True)
        self.input_gate, self.recurrence_gate = (
            BlockLinear(width, config.n_heads) for _ in range(2)
        )
        self.o = ResidualLinear(width, dim, bias=config.bias)
        # softplus(rate) = -log(a) / 8 at an open gate, for a from 0.9 to 0.999
        a = mx.sqrt(mx.random.uniform(0.9**2, 0.999**2, (width,)))
        self.rate = mx.log(mx.expm1(-mx.log(a)))

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        empty = mx.zeros((x.shape[0], self.rate.shape[0]))
        return self._mix(x, self.conv(self.x(x), ctx), empty, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros; h stays in float32."""
        h = mx.zeros((batch, self.rate.shape[0]))
        return {"h": h, "conv": self.conv.init_state(batch, dtype)}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        u, conv = self.conv.step(self.x(x), state["conv"], ctx)
        y, h = self._mix(x, u, state["h"], ctx)
        return y, {"h": h, "conv": conv}

    def _mix(
        self, x: mx.array, u: mx.array, state: mx.array, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        length = x.shape[1]
        gates = self.input_gate(u), self.recurrence_gate(u)
        first, valid = first_tokens(ctx, length), real_tokens(ctx, length)
        h, last = rg_lru(u, *gates, self.rate, state, first, valid)
        return self.o(self.activation(self.y(x)) * h), last
