"""H3: a state space between two products, after a shift of the keys."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.complex import Complex
from ...ops.hippo import diagonal
from ...ops.state_space import MakeSystem, diagonal_system, run_system
from ..kinds import MixerKind, State
from ..linear import ResidualLinear
from ..parameter import Role
from ..short_conv import ShortConv
from ..token_masks import without_padding
from .head_states import heads_of_width


class H3(MixerKind):
    """H3: `y = W_o (q · SSM_diag(SSM_shift(k) vᵀ))`, linear attention whose sums are state spaces.

    Fu et al. 2022, "Hungry Hungry Hippos" ([arXiv:2212.14052](https://arxiv.org/abs/2212.14052)),
    section 3.1 and algorithm 1. The shift is a convolution of `shift` taps; the outer products of
    each head go through one diagonal state space (S4D). It reads the past alone in every pass.
    """

    kind: Literal["h3"] = "h3"
    head_dim: int = Field(1, ge=1)
    """Width K of a head; its state holds K² times `state_dim` numbers."""
    state_dim: int = Field(64, ge=2, multiple_of=2)
    """Numbers N in the state of each product: N / 2 conjugate pairs."""
    shift: int = Field(4, ge=1)
    """Tokens that the shift of the keys reads."""
    dt_min: float = Field(1e-3, gt=0)
    """Smallest step size at the start, in tokens of the state's clock."""
    dt_max: float = Field(1e-1, gt=0)
    """Largest step size at the start; heads draw theirs log-uniformly between the two."""
    chunk: int = Field(64, ge=1)
    """Tokens M computed at once: of the work per token, M is within a chunk, 2 N between them."""

    @model_validator(mode="after")
    def _steps_are_ordered(self) -> "H3":
        if self.dt_min > self.dt_max:
            raise ValueError(f"dt_min = {self.dt_min} is more than dt_max = {self.dt_max}.")
        return self

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, queries, keys and values; the products, before and after, in float32."""
        chunk, heads = min(self.chunk, at.length), dim // self.head_dim
        matrices = heads * (chunk**2 + 11 * self.state_dim * chunk) / at.tokens
        products = dim * self.head_dim * (2 + 2 * self.state_dim / chunk)
        return 7 * dim * at.itemsize + (products + matrices) * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Products of a chunk with itself, and with the state before and behind it."""
        return dim * self.head_dim * (2.0 * min(self.chunk, length) + 4.0 * self.state_dim)

    def build(self, dim: int) -> "H3Mixer":
        return H3Mixer(self, dim)


class H3Mixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is the last keys and N numbers per product."""

    roles: ClassVar[dict[str, Role]] = dict.fromkeys(("log_A", "A_imag", "C", "D", "log_dt"), "own")

    def __init__(self, config: H3, dim: int) -> None:
        super().__init__()
        self.n_heads, self.head_dim = heads_of_width(dim, config.head_dim), config.head_dim
        self.chunk, self.state_dim = config.chunk, config.state_dim
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.shift = ShortConv(dim, config.shift, bias=False)
        self.o = ResidualLinear(dim, dim)
        start = diagonal("lin", config.state_dim)
        start = np.broadcast_to(start, (self.n_heads, config.state_dim // 2))
        self.log_A = mx.array(np.log(-start.real).astype(np.float32))
        self.A_imag = mx.array(start.imag.astype(np.float32))
        self.C = mx.random.normal((*self.log_A.shape, 2)) * 0.5**0.5
        self.D = mx.random.normal((self.n_heads,))
        low, high = math.log(config.dt_min), math.log(config.dt_max)
        self.log_dt = mx.random.uniform(low, high, (self.n_heads, 1))

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._mix(x, self.shift(self.k(x), ctx), None, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros; states of the products stay float32 whatever the dtype."""
        products = (batch, self.head_dim**2, self.n_heads, self.state_dim)
        return self.shift.init_state(batch, dtype) | {"h": mx.zeros(products)}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        k, after = self.shift.step(self.k(x), {"past": state["past"]}, ctx)
        y, h = self._mix(x, k, state["h"], ctx)
        return y, after | {"h": h}

    def _mix(
        self, x: mx.array, k: mx.array, state: mx.array | None, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        """The output from shifted keys `[B, T, D]`, and the last states `[B, K², H, N]`."""
        B, T, _ = x.shape
        q, v = (self._heads(rows) for rows in (self.q(x), self.v(x)))
        pairs = self._heads(without_padding(k, ctx))[:, :, None] * v[:, None]
        rows = pairs.astype(mx.float32).reshape(-1, T, self.n_heads)
        segments = ctx.layout.segments
        if segments is not None:
            segments = mx.repeat(segments, self.head_dim**2, axis=0)
        if state is not None:
            state = state.reshape(-1, self.n_heads, self.state_dim)
        mixed, after = run_system(self._system(), rows, state, segments, chunk=self.chunk)
        mixed = (mixed + self.D.astype(mx.float32) * rows).reshape(pairs.shape).astype(x.dtype)
        y = (q[:, :, None] * mixed).sum(axis=1)
        y = self.o(y.transpose(0, 2, 3, 1).reshape(B, T, -1))
        return y, after.reshape(B, -1, self.n_heads, self.state_dim)

    def _heads(self, x: mx.array) -> mx.array:
        """`[B, T, H K]` as `[B, K, T, H]`."""
        return x.reshape(*x.shape[:2], self.n_heads, self.head_dim).transpose(0, 3, 1, 2)

    def _system(self) -> MakeSystem:
        arrays = (self.log_A, self.A_imag, self.C, self.log_dt)
        log_a, imaginary, c, log_dt = (v.astype(mx.float32) for v in arrays)
        ones = Complex(mx.ones_like(log_a), mx.zeros_like(log_a))
        a = Complex(-mx.exp(log_a), imaginary)
        return diagonal_system(a, ones, Complex.of(c), mx.exp(log_dt), "zoh")
