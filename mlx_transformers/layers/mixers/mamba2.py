"""Mamba-2: a state space with one decay per head, computed as decayed linear attention."""

from functools import partial
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.activations import ACTIVATIONS
from ...ops.chunks import document_starts
from ...ops.glu import glu
from ...ops.linear_attention import linear_attention
from ...ops.norms import rms_norm
from ..ffns.mlp import Activation
from ..kinds import MixerKind, State
from ..linear import ResidualLinear
from ..parameter import NORM, Role
from ..short_conv import ShortConv
from ..step_size import StepSizes, step_sizes
from ..token_masks import without_padding

GatedNorm = Literal["gate_first", "norm_first", "none"]
"""Whether the scan's output is gated and then normalised, the other way round, or gated only."""


class Mamba2(StepSizes, MixerKind):
    """State space duality (SSD): heads of width P with one decay each, `S_t = e^{Δ A} S + Δ x Bᵀ`.

    Dao and Gu 2024 ([arXiv:2405.21060](https://arxiv.org/abs/2405.21060)), sections 6 and 7: linear
    attention with queries C, keys B and values Δ x, by matrix products over chunks. Step sizes, B,
    C and the gate come from one projection. It reads the past alone in every pass.
    """

    kind: Literal["mamba2"] = "mamba2"
    inner_dim: int | None = Field(None, ge=1)
    """Width of the scan; none means 2 · dim."""
    head_dim: int = Field(64, ge=1)
    """Width P of a head."""
    state_dim: int = Field(128, ge=1)
    """Width N of B and C."""
    n_groups: int = Field(1, ge=1)
    """Groups G of heads that share B and C."""
    conv_width: int = Field(4, ge=1)
    """Tokens that the short convolution reads."""
    activation: Activation = "silu"
    """The activation of convolution and gate."""
    dt_at_least: float = Field(0.0, ge=0)
    """Smaller step sizes are raised to this."""
    dt_at_most: float | None = Field(None, gt=0)
    """Larger step sizes are lowered to this; none means no limit."""
    D_per_feature: bool = False
    """Whether the skip D has a number for each feature rather than for each head."""
    gated_norm: GatedNorm = "gate_first"
    """Order of the gate and the RMS norm on the scan's output, or no norm."""
    norm_groups: int = Field(1, ge=1)
    """Groups of features that the norm treats apart."""
    eps: float = Field(1e-5, gt=0)
    """Added to the mean square before the root."""
    bias: bool = False
    """Whether the input projection has a bias."""
    out_bias: bool = False
    """Whether the output projection has a bias."""
    conv_bias: bool = True
    """Whether the convolution has a bias."""
    chunk: int = Field(64, ge=1)
    """Tokens M computed at once, a power of two."""

    @model_validator(mode="after")
    def _numbers_agree(self) -> "Mamba2":
        if self.chunk & (self.chunk - 1):
            raise ValueError(f"chunk = {self.chunk} is no power of two: choose 64 or 128.")
        if self.dt_at_most is not None and self.dt_at_least >= self.dt_at_most:
            raise ValueError(
                f"dt_at_least = {self.dt_at_least} leaves no step size below dt_at_most = "
                f"{self.dt_at_most}: make it less."
            )
        if self.gated_norm == "none" and self.norm_groups != 1:
            raise ValueError("norm_groups has no effect with gated_norm = 'none': unset it.")
        return self

    def width(self, dim: int) -> int:
        """Width of the scan."""
        return self.inner_dim or 2 * dim

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Inputs of projections, convolution, gate and norm, and those of the scan in float32."""
        inner, both = self.width(dim), 2 * self.n_groups * self.state_dim
        heads = inner // self.head_dim
        outside = dim + 8 * inner + 3 * both
        return outside * at.itemsize + (inner + both + 3 * heads) * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Pairs within a chunk, and products with the state before and behind it."""
        inner, chunk = self.width(dim), min(self.chunk, 1 << (length - 1).bit_length())
        pairs = 2.0 * chunk * (self.n_groups * self.state_dim + inner)
        return pairs + 4.0 * inner * self.state_dim

    def build(self, dim: int) -> "Mamba2Mixer":
        inner = self.width(dim)
        for name, n in (("head_dim", self.head_dim), ("norm_groups", self.norm_groups)):
            if inner % n:
                raise RecipeError(
                    f"mixer.{name} = {n} does not divide the width of the scan, {inner} "
                    "(mixer.inner_dim, or twice model.dim). Choose a divisor."
                )
        if inner // self.head_dim % self.n_groups:
            raise RecipeError(
                f"mixer.n_groups = {self.n_groups} does not divide the {inner // self.head_dim} "
                "heads (the width of the scan by mixer.head_dim). Choose a divisor."
            )
        return Mamba2Mixer(self, dim)


class GatedRmsNorm(nn.Module):
    """An RMS norm beside a gate: `(y, gate [..., F]) -> [..., F]`, F in groups of their own."""

    roles: ClassVar[dict[str, Role]] = NORM

    def __init__(self, config: Mamba2, dim: int) -> None:
        super().__init__()
        self.groups, self.eps = config.norm_groups, config.eps
        self.norm_first, self.activation = config.gated_norm == "norm_first", config.activation
        if config.gated_norm != "none":
            self.weight = mx.ones((dim,))

    def __call__(self, y: mx.array, gate: mx.array) -> mx.array:
        if "weight" not in self:
            return glu(gate, y, self.activation)
        if self.norm_first:
            return glu(gate, self._norm(y), self.activation)
        return self._norm(glu(gate, y, self.activation))

    def _norm(self, y: mx.array) -> mx.array:
        if self.groups == 1:
            return rms_norm(y, self.weight, self.eps)
        grouped = y.reshape(*y.shape[:-1], self.groups, -1)
        return rms_norm(grouped, None, self.eps).reshape(y.shape) * self.weight


class Mamba2Mixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state is the last inputs of the convolution
    and a matrix `[N, P]` per head."""

    roles: ClassVar[dict[str, Role]] = {"A_log": "own", "D": "own", "dt_bias": "own"}

    def __init__(self, config: Mamba2, dim: int) -> None:
        super().__init__()
        self.config = config
        inner, both = config.width(dim), 2 * config.n_groups * config.state_dim
        heads = inner // config.head_dim
        self.splits = [inner, 2 * inner + both]
        self.inputs = nn.Linear(dim, 2 * inner + both + heads, bias=config.bias)
        self.conv = ShortConv(inner + both, config.conv_width, config.conv_bias)
        self.dt_bias = config.draw_bias(heads)
        self.A_log = mx.log(mx.random.uniform(1.0, 16.0, (heads,)))
        self.D = mx.ones((heads, config.head_dim) if config.D_per_feature else (heads,))
        self.norm = GatedRmsNorm(config, inner)
        self.o = ResidualLinear(inner, dim, bias=config.out_bias)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        gate, xbc, dt = mx.split(self.inputs(x), self.splits, axis=-1)
        return self._scan(self.conv(xbc, ctx), gate, dt, None, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros; the matrices stay float32 whatever the dtype."""
        heads, c = self.A_log.shape[0], self.config
        h = mx.zeros((batch, heads, c.state_dim, c.head_dim))
        return {"conv": self.conv.init_state(batch, dtype), "h": h}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        gate, xbc, dt = mx.split(self.inputs(x), self.splits, axis=-1)
        xbc, conv = self.conv.step(xbc, state["conv"], ctx)
        y, h = self._scan(xbc, gate, dt, state["h"], ctx)
        return y, {"conv": conv, "h": h}

    def _scan(
        self, xbc: mx.array, gate: mx.array, dt: mx.array, state: mx.array | None, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        """The output from convolved x, B and C, and the last state."""
        c, (B, T, inner) = self.config, gate.shape
        xbc = ACTIVATIONS[c.activation](xbc)
        x, keys, queries = (
            part.reshape(B, T, n, -1).swapaxes(1, 2)
            for part, n in zip(
                mx.split(xbc, [inner, inner + c.n_groups * c.state_dim], axis=-1),
                (self.A_log.shape[0], c.n_groups, c.n_groups),
                strict=True,
            )
        )
        dt = step_sizes(dt, self.dt_bias)
        if c.dt_at_least or c.dt_at_most is not None:
            dt = mx.clip(dt, c.dt_at_least, c.dt_at_most)
        dt = without_padding(dt, ctx).swapaxes(1, 2)
        scan = partial(
            linear_attention,
            queries,
            keys,
            log_decay=dt * -mx.exp(self.A_log.astype(mx.float32))[:, None],
            scale=1.0,
            state=state,
            starts=document_starts(ctx.layout.segments),
            chunk=c.chunk,
        )
        step = dt[..., None].astype(x.dtype)
        ctx.collected.observe_weights("implied", lambda values: scan(values * step)[0], x)
        y, after = scan(x * step)
        skip = self.D[:, None] if c.D_per_feature else self.D[:, None, None]
        y = y + skip.astype(x.dtype) * x
        y = y.swapaxes(1, 2).reshape(B, T, inner)
        return self.o(self.norm(y, gate)), after
