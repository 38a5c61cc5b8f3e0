"""Initialisation: what the slot `init` can hold. `apply(model, depth)` sets every weight.

Biases start at zero and norms at one, as their modules make them; these kinds draw the matrices:
linear maps, embeddings and stacked experts.
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
    for _, module in sorted(model.named_modules()):
        residual = isinstance(module, ResidualLinear) or getattr(module, "residual_output", False)
        for name, value in module.items():
            if isinstance(value, mx.array) and value.ndim >= 2:
                found.append((module, name, residual))
    return found


class Normal(Kind):
    """Every matrix from N(0, std²); `depth_scaled` divides residual outputs by √(2L).

    Radford et al. 2019 (GPT-2), section 2.3: residual layers are scaled by 1/√N, N = 2L of them.
    """

    kind: Literal["normal"] = "normal"
    std: float = Field(gt=0)
    """Standard deviation of the draw."""
    depth_scaled: bool = False
    """Whether projections that write into the residual stream start smaller, by 1/√(2L)."""

    def apply(self, model: nn.Module, n_layers: int) -> None:
        for module, name, residual in matrices(model):
            scaled = self.depth_scaled and residual
            std = self.std / math.sqrt(2 * n_layers) if scaled else self.std
            module[name] = std * mx.random.normal(module[name].shape)


class FanIn(Kind):
    """Linear maps from N(0, gain²/fan_in), so that activations keep their scale at any width.

    LeCun et al. 1998, section 4.6. Embeddings are drawn from N(0, embed_std²); residual outputs
    are divided by √(2L).
    """

    kind: Literal["fan_in"] = "fan_in"
    gain: float = Field(1.0, gt=0)
    """Multiplies the standard deviation of linear maps."""
    embed_std: float = Field(0.02, gt=0)
    """Standard deviation of the embedding tables."""

    def apply(self, model: nn.Module, n_layers: int) -> None:
        for module, name, residual in matrices(model):
            shape = module[name].shape
            std = self.gain / math.sqrt(shape[-1])
            if isinstance(module, nn.Embedding):
                std = self.embed_std
            elif residual:
                std /= math.sqrt(2 * n_layers)
            module[name] = std * mx.random.normal(shape)


class Xavier(Kind):
    """Linear maps uniform in ±√(6 / (fan_in + fan_out)); embeddings from N(0, 1/D).

    Glorot & Bengio 2010, equation 16: what the 2017 transformer's code used.
    """

    kind: Literal["xavier"] = "xavier"

    def apply(self, model: nn.Module, n_layers: int) -> None:
        for module, name, _ in matrices(model):
            shape = module[name].shape
            if isinstance(module, nn.Embedding):
                module[name] = mx.random.normal(shape) / math.sqrt(shape[-1])
            else:
                bound = math.sqrt(6 / (shape[-1] + shape[-2]))
                module[name] = mx.random.uniform(-bound, bound, shape)
