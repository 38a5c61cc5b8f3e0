"""Mamba: a selective state space behind a short convolution, gated by the input."""

import math
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.activations import ACTIVATIONS
from ...ops.chunks import document_starts
from ...ops.glu import glu
from ...ops.selective_scan import implied_attention, selective_scan
from ...ops.unstack import split_last
from ...recipe.slot import Slot
from ..ffns.mlp import Activation
from ..kinds import MixerKind, NormKind, State
from ..linear import ResidualLinear
from ..parameter import Role
from ..short_conv import ShortConv
from ..step_size import StepSizes, step_sizes
from ..token_masks import without_padding


class Mamba(StepSizes, MixerKind):
    """`y = W_o (scan(act(conv(W_x x))) · act(W_z x))`; step size, B and C are read from the input.

    Gu and Dao 2023 ([arXiv:2312.00752](https://arxiv.org/abs/2312.00752)), section 3.4, figure 3.
    It replaces mixer and ffn. It reads the past alone in every pass.
    """

    kind: Literal["mamba"] = "mamba"
    inner_dim: int | None = Field(None, ge=1)
    """Width of the scan; none means 2 · dim."""
    state_dim: int = Field(16, ge=1)
    """States N of each feature."""
    conv_width: int = Field(4, ge=1)
    """Tokens that the short convolution reads."""
    dt_rank: int | None = Field(None, ge=1)
    """Rank of the projection to step sizes; none means dim / 16, rounded up."""
    activation: Activation = "silu"
    """The activation of convolution and gate."""
    norm: Annotated[NormKind, Slot("norm")] | None = None
    """Normalisation of the low-rank step sizes, of B, and of C (Jamba, Falcon-Mamba)."""
    bias: bool = False
    """Whether the input projection has a bias."""
    out_bias: bool = False
    """Whether the output projection has a bias."""
    conv_bias: bool = True
    """Whether the convolution has a bias."""

    def widths(self, dim: int) -> tuple[int, int]:
        """Width of the scan, and rank of the step sizes."""
        return self.inner_dim or 2 * dim, self.dt_rank or math.ceil(dim / 16)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Inputs of projections, convolution and gate, and those of the scan in float32."""
        inner, rank = self.widths(dim)
        low = rank + 2 * self.state_dim
        norms = 0.0 if self.norm is None else self.norm.saved_bytes(low, at)
        return (dim + 5 * inner + low) * at.itemsize + norms + (4 * inner + low) * FLOAT32_BYTES

    def backward_bytes(self, dim: int, at: ActivationShape) -> float:
        """The states of the scan."""
        return float(self.widths(dim)[0] * self.state_dim * FLOAT32_BYTES)

    def flops(self, dim: int, length: int) -> float:
        """Outer products of B with the input, and products of C with the states."""
        return 4.0 * self.widths(dim)[0] * self.state_dim

    def build(self, dim: int) -> "MambaMixer":
        return MambaMixer(self, dim)


class StepProjection(nn.Linear):
    """From the low rank to step sizes; its weights start uniform in ±1/√rank, and stay so drawn."""

    roles: ClassVar[dict[str, Role]] = {"weight": "own"}


class MambaMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state is the last inputs of the convolution
    and N numbers per feature."""

    roles: ClassVar[dict[str, Role]] = {"A_log": "own", "D": "own", "dt_bias": "own"}

    def __init__(self, config: Mamba, dim: int) -> None:
        super().__init__()
        inner, rank = config.widths(dim)
        self.activation, self.splits = config.activation, [rank, rank + config.state_dim]
        self.inputs = nn.Linear(dim, 2 * inner, bias=config.bias)
        self.conv = ShortConv(inner, config.conv_width, config.conv_bias)
        self.selection = nn.Linear(inner, rank + 2 * config.state_dim, bias=False)
        if config.norm is not None:
            self.dt_norm = config.norm.build(rank)
            self.B_norm = config.norm.build(config.state_dim)
            self.C_norm = config.norm.build(config.state_dim)
        self.dt = StepProjection(rank, inner, bias=False)
        self.dt_bias = config.draw_bias(inner)
        states = mx.arange(1, config.state_dim + 1, dtype=mx.float32)
        self.A_log = mx.log(mx.broadcast_to(states, (inner, config.state_dim)))
        self.D = mx.ones((inner,))
        self.o = ResidualLinear(inner, dim, bias=config.out_bias)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        u, gate = split_last(self.inputs(x), 2)
        return self._scan(self.conv(u, ctx), gate, None, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros; states stay float32 whatever the dtype."""
        return {
            "conv": self.conv.init_state(batch, dtype),
            "h": mx.zeros((batch, *self.A_log.shape)),
        }

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        u, gate = split_last(self.inputs(x), 2)
        u, conv = self.conv.step(u, state["conv"], ctx)
        y, h = self._scan(u, gate, state["h"], ctx)
        return y, {"conv": conv, "h": h}

    def _scan(
        self, u: mx.array, gate: mx.array, state: mx.array | None, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        """The output from convolved inputs and gates `[B, T, inner]`, and the last state."""
        u = ACTIVATIONS[self.activation](u)
        low, b, c = mx.split(self.selection(u), self.splits, axis=-1)
        if "dt_norm" in self:
            low, b, c = self.dt_norm(low), self.B_norm(b), self.C_norm(c)
        dt = without_padding(step_sizes(self.dt(low), self.dt_bias), ctx)
        a = -mx.exp(self.A_log.astype(mx.float32))
        starts = document_starts(ctx.layout.segments)
        arrays = (dt, b[:, :, None], c[:, :, None])
        if ctx.collected.observer is not None:
            ctx.collected.observe("implied", implied_attention(a, *arrays, starts))
        y, after = selective_scan(u, dt, a, *arrays[1:], state=state, starts=starts)
        y = y.astype(u.dtype) + self.D.astype(u.dtype) * u
        return self.o(glu(gate, y, self.activation)), after
