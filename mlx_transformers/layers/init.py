"""Weight initialisation: the kinds of the slot `init`. `apply(model, n_layers)` sets the weights.

A kind draws matrices and embedding tables. Biases start at zero. All other parameters keep the
start that their module gives them (norms: one). The roles are declared (`parameter.py`).
"""

import math
from abc import abstractmethod
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from .kinds import InitKind
from .parameter import parameters_of


class Init(InitKind):
    """Base of all initialisations; a kind draws one matrix."""

    def apply(self, model: nn.Module, n_layers: int) -> None:
        """Draw the weights of `model`; 2 · `n_layers` matrices write into its residual stream."""
        parameters = list(parameters_of(model))
        for parameter in parameters:
            if parameter.role == "bias":
                parameter.module[parameter.name] = mx.zeros_like(parameter.array)
        for parameter in parameters:
            if parameter.role in ("matrix", "table"):
                depth = 1.0 / math.sqrt(2 * n_layers) if parameter.writes_residual else 1.0
                parameter.module[parameter.name] = self.draw(
                    parameter.array.shape, parameter.role == "table", depth
                )

    @abstractmethod
    def draw(self, shape: tuple[int, ...], table: bool, depth: float) -> mx.array:
        """Return one drawn matrix `[..., out, in]`.

        Args:
            shape: its shape.
            table: whether it is an embedding table, `[V, D]`.
            depth: 1/√(2L) for a matrix that writes into the residual stream, else 1.
        """


class Normal(Init):
    """Every matrix and table from N(0, std²); `depth_scaled` divides residual outputs by √(2L).

    Radford et al. 2019 (GPT-2), section 2.3: residual layers are scaled by 1/√N, N = 2L of them.
    """

    kind: Literal["normal"] = "normal"
    std: float = Field(gt=0)
    """Standard deviation."""
    depth_scaled: bool = False
    """Whether projections that write into the residual stream start smaller, by 1/√(2L)."""

    def draw(self, shape: tuple[int, ...], table: bool, depth: float) -> mx.array:
        return self.std * (depth if self.depth_scaled else 1.0) * mx.random.normal(shape)


class ByFanIn(Init):
    """Linear layers by the number of their inputs, embedding tables by a deviation of their own."""

    gain: float = Field(1.0, gt=0)
    """Multiplies the standard deviation of linear layers."""
    embed_std: float = Field(0.02, gt=0)
    """Standard deviation of the embedding tables."""

    def draw(self, shape: tuple[int, ...], table: bool, depth: float) -> mx.array:
        std = self.embed_std if table else self.gain * depth / math.sqrt(shape[-1])
        return std * mx.random.normal(shape)


class FanIn(ByFanIn):
    """Linear layers from N(0, gain²/fan_in), so that activations keep their scale at any width.

    LeCun et al. 1998, section 4.6. Embeddings are drawn from N(0, embed_std²); matrices that write
    into the residual stream are divided by √(2L).
    """

    kind: Literal["fan_in"] = "fan_in"


class MuP(ByFanIn):
    """The initial weights of μP (Yang et al. 2022, table 3): linear layers as `fan_in` draws them,
    and those of an untied head from N(0, gain² · base_dim / fan_in²).

    At width `base_dim` it is `fan_in`. Learning rates transfer across widths with `optim.base_dim`
    set to the same number, while heads have one size and attention one scale.
    """

    kind: Literal["mup"] = "mup"
    base_dim: int = Field(ge=1)
    """Width of the model that was tuned."""

    def apply(self, model: nn.Module, n_layers: int) -> None:
        super().apply(model, n_layers)
        for parameter in parameters_of(model):
            if parameter.path == "head.weight":
                scale = math.sqrt(self.base_dim / parameter.array.shape[-1])
                parameter.module[parameter.name] = parameter.array * scale


class Xavier(Init):
    """Linear layers uniform in ±√(6 / (fan_in + fan_out)); embeddings from N(0, 1/D).

    Glorot & Bengio 2010, equation 16: as in the code of the 2017 transformer.
    """

    kind: Literal["xavier"] = "xavier"

    def draw(self, shape: tuple[int, ...], table: bool, depth: float) -> mx.array:
        if table:
            return mx.random.normal(shape) / math.sqrt(shape[-1])
        bound = math.sqrt(6 / (shape[-1] + shape[-2]))
        return mx.random.uniform(-bound, bound, shape)
