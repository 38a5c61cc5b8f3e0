"""Initialisation: what the slot `init` can hold. `apply(model, n_layers)` sets every weight.

A kind draws the matrices: linear maps, embeddings and stacked experts. Norms start at one, as
their modules make them, and every bias at zero.
"""

import math
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..recipe.config import Kind
from .linear import ResidualLinear


def matrices(model: nn.Module) -> list[tuple[nn.Module, str, bool]]:
    """Every (module, parameter, writes into the residual stream) whose parameter is a matrix."""
    found = []
    for module, name, value in _arrays(model):
        if name != "bias" and value.ndim >= 2:
            residual = isinstance(module, ResidualLinear)
            found.append((module, name, residual or getattr(module, "residual_output", False)))
    return found


def zero_biases(model: nn.Module) -> None:
    """Set every bias to zero: `nn.Linear` draws its own."""
    for module, name, value in _arrays(model):
        if name == "bias":
            module[name] = mx.zeros_like(value)


def _arrays(model: nn.Module) -> list[tuple[nn.Module, str, mx.array]]:
    modules = [module for _, module in sorted(model.named_modules())]
    return [(m, k, v) for m in modules for k, v in m.items() if isinstance(v, mx.array)]


class Init(Kind):
    """What every kind of initialisation does; a kind draws one matrix."""

    def apply(self, model: nn.Module, n_layers: int) -> None:
        """Set the weights of `model`, whose residual stream is written to by 2L maps."""
        zero_biases(model)
        for module, name, residual in matrices(model):
            depth = 1.0 / math.sqrt(2 * n_layers) if residual else 1.0
            module[name] = self.draw(module[name].shape, isinstance(module, nn.Embedding), depth)

    def draw(self, shape: tuple[int, ...], table: bool, depth: float) -> mx.array:
        """One matrix `[..., out, in]`.

        Args:
            table: whether it is an embedding table, `[V, D]`.
            depth: 1/√(2L) for a map that writes into the residual stream, else 1.
        """
        raise NotImplementedError(f"{type(self).__name__} draws nothing.")


class Normal(Init):
    """Every matrix from N(0, std²); `depth_scaled` divides residual outputs by √(2L).

    Radford et al. 2019 (GPT-2), section 2.3: residual layers are scaled by 1/√N, N = 2L of them.
    """

    kind: Literal["normal"] = "normal"
    std: float = Field(gt=0)
    """Standard deviation of the draw."""
    depth_scaled: bool = False
    """Whether projections that write into the residual stream start smaller, by 1/√(2L)."""

    def draw(self, shape: tuple[int, ...], table: bool, depth: float) -> mx.array:
        return self.std * (depth if self.depth_scaled else 1.0) * mx.random.normal(shape)


class FanIn(Init):
    """Linear maps from N(0, gain²/fan_in), so that activations keep their scale at any width.

    LeCun et al. 1998, section 4.6. Embeddings are drawn from N(0, embed_std²); residual outputs
    are divided by √(2L).
    """

    kind: Literal["fan_in"] = "fan_in"
    gain: float = Field(1.0, gt=0)
    """Multiplies the standard deviation of linear maps."""
    embed_std: float = Field(0.02, gt=0)
    """Standard deviation of the embedding tables."""

    def draw(self, shape: tuple[int, ...], table: bool, depth: float) -> mx.array:
        std = self.embed_std if table else self.gain * depth / math.sqrt(shape[-1])
        return std * mx.random.normal(shape)


class Xavier(Init):
    """Linear maps uniform in ±√(6 / (fan_in + fan_out)); embeddings from N(0, 1/D).

    Glorot & Bengio 2010, equation 16: what the 2017 transformer's code used.
    """

    kind: Literal["xavier"] = "xavier"

    def draw(self, shape: tuple[int, ...], table: bool, depth: float) -> mx.array:
        if table:
            return mx.random.normal(shape) / math.sqrt(shape[-1])
        bound = math.sqrt(6 / (shape[-1] + shape[-2]))
        return mx.random.uniform(-bound, bound, shape)
