"""Shared parts of S4 and S4D: a state space per feature, an activation, and a gated output."""

import math
from abc import abstractmethod
from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.footprint import FLOAT32_BYTES, ActivationShape
from ..core.shapes import BTD
from ..ops.activations import gelu
from ..ops.glu import glu
from ..ops.state_space import MakeSystem, run_system
from .kinds import MixerKind, State
from .linear import ResidualLinear
from .parameter import Role
from .token_masks import without_padding


class StateSpaceKind(MixerKind):
    """Fields of S4 and S4D: `y = W_o gelu(K * u + D u)`, K the kernel of a state space.

    The layer is linear in its input and the same at every position, so that it reads the past
    alone in a pass that is not causal too.
    """

    state_dim: int = Field(64, ge=2, multiple_of=2)
    """Numbers N in the state of each feature: N / 2 conjugate pairs."""
    dt_min: float = Field(1e-3, gt=0)
    """Smallest step size at the start, in tokens of the state's clock."""
    dt_max: float = Field(1e-1, gt=0)
    """Largest step size at the start; features draw theirs log-uniformly between the two."""
    gated: bool = True
    """Whether the output is a gated linear unit; if not, one projection."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout after the activation."""
    chunk: int = Field(64, ge=1)
    """Tokens M computed at once: of the work per token, M is within a chunk, 2 N between them."""

    @model_validator(mode="after")
    def _steps_are_ordered(self) -> "StateSpaceKind":
        if self.dt_min > self.dt_max:
            raise ValueError(f"dt_min = {self.dt_min} is more than dt_max = {self.dt_max}.")
        return self

    @abstractmethod
    def saved_matrices(self, chunk: int) -> float:
        """Numbers per feature that the matrices of a chunk save, however many rows there are."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Inputs in float32, states between chunks, matrices, and what activation and gate save."""
        chunk = min(self.chunk, at.length)
        matrices = (chunk**2 + self.saved_matrices(chunk)) / at.tokens
        after = (4 + (2 if self.gated else 0)) * at.itemsize + (1 if self.dropout else 0)
        return dim * ((2 + 2 * self.state_dim / chunk + matrices) * FLOAT32_BYTES + after)

    def flops(self, dim: int, length: int) -> float:
        """Products of a chunk with itself, and with the state before and behind it."""
        return dim * (2.0 * min(self.chunk, length) + 4.0 * self.state_dim)


class StateSpaceMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state is N numbers per feature."""

    roles: ClassVar[dict[str, Role]] = {"D": "own", "log_dt": "own"}

    def __init__(self, config: StateSpaceKind, dim: int) -> None:
        super().__init__()
        self.config = config
        self.dropout = config.dropout
        low, high = math.log(config.dt_min), math.log(config.dt_max)
        self.log_dt = mx.random.uniform(low, high, (dim,))
        self.D = mx.random.normal((dim,))
        self.o = ResidualLinear(dim, (2 if config.gated else 1) * dim)

    @abstractmethod
    def system(self) -> MakeSystem:
        """The discretised state space of all features, in float32."""

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._run(x, None, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros; states stay float32 whatever the dtype."""
        return {"x": mx.zeros((batch, self.D.shape[0], self.config.state_dim))}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        y, after = self._run(x, state["x"], ctx)
        return y, {"x": after}

    def _run(self, x: mx.array, state: mx.array | None, ctx: Context) -> tuple[mx.array, mx.array]:
        x = without_padding(x, ctx)
        y, after = run_system(self.system(), x, state, ctx.layout.segments, chunk=self.config.chunk)
        y = ctx.dropout(gelu(y.astype(x.dtype) + self.D.astype(x.dtype) * x), self.dropout)
        y = self.o(y)
        if not self.config.gated:
            return y, after
        value, gate = mx.split(y, 2, axis=-1)
        return glu(gate, value, "sigmoid"), after

    def steps(self) -> mx.array:
        """Step sizes dt `[D, 1]`."""
        return mx.exp(self.log_dt.astype(mx.float32))[:, None]
