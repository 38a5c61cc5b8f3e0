"""Convolution over time."""

from collections.abc import Callable
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...ops.activations import ACTIVATIONS
from ..ffns.mlp import Activation
from ..kinds import MixerKind
from ..parameter import LINEAR, Role
from ..taps import State, Taps


class Convolution(MixerKind):
    """Convolution over time: `y_t = act(Σ_j W_j x_{t + j - left} + b)`, j = 0 ... kernel - 1.

    In a causal pass the kernel ends at the token, otherwise it is centred on it (He et al. 2020,
    DeBERTa: their code, `ConvLayer`). Padding and other documents read as zeros.
    """

    kind: Literal["convolution"] = "convolution"
    kernel: int = Field(ge=1)
    """Tokens that each output reads."""
    activation: Activation = "identity"
    """The activation function."""
    groups: int = Field(1, ge=1)
    """Groups of features, each convolved on its own."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the sum, before the activation."""

    def build(self, dim: int) -> "ConvolutionMixer":
        if dim % self.groups:
            raise RecipeError(
                f"mixer.groups = {self.groups} does not divide model.dim = {dim}: every group has "
                "as many features."
            )
        return ConvolutionMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """The taps of every token, the sum before the activation, and the dropout mask."""
        return dim * ((self.kernel + 1) * at.itemsize + (1 if self.dropout else 0))

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight."""
        return 0.0


class ConvolutionMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state holds the last kernel - 1 inputs."""

    roles: ClassVar[dict[str, Role]] = LINEAR

    def __init__(self, config: Convolution, dim: int) -> None:
        super().__init__()
        self.taps, self.groups = Taps(config.kernel), config.groups
        self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]
        self.dropout = config.dropout
        self.weight = mx.zeros((dim, config.kernel, dim // config.groups))
        self.bias = mx.zeros((dim,))

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._sum(self.taps.read(x, ctx), ctx)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros in place of the last kernel - 1 inputs."""
        return self.taps.init_state(batch, self.bias.shape[0], dtype)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        taps, after = self.taps.step(x, state, ctx)
        return self._sum(taps, ctx), after

    def _sum(self, taps: list[mx.array], ctx: Context) -> mx.array:
        """The convolution of taps `[B, T, D]` as one matrix product per group."""
        B, T, D = taps[0].shape
        groups, width = self.groups, D // self.groups
        x = mx.stack(taps, axis=2).reshape(B, T, -1, groups, width)
        x = x.transpose(0, 3, 1, 2, 4).reshape(B, groups, T, -1)
        w = self.weight.reshape(groups, width, -1).swapaxes(-1, -2)
        y = (x @ w).transpose(0, 2, 1, 3).reshape(B, T, D) + self.bias
        return self.activation(ctx.dropout(y, self.dropout))
