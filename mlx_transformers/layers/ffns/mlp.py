"""The two-layer feed-forward network."""

from collections.abc import Callable
from typing import ClassVar, Literal, Self

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import xD
from ...ops.activations import ACTIVATIONS
from ..kinds import Apply, ExpertKind, LinearFactory
from ..sharding import divide_evenly
from .down import down
from .expert import apply_linear

Activation = Literal[
    "relu",
    "gelu",
    "gelu_tanh",
    "gelu_quick",
    "silu",
    "relu2",
    "elu",
    "selu",
    "mish",
    "sigmoid",
    "tanh",
    "identity",
]


class Mlp(ExpertKind):
    """A two-layer feed-forward network: `down(act(up(x)))`.

    Vaswani et al. 2017, section 3.3 (relu); GPT-2 and BERT use gelu; relu²: So et al. 2021.
    """

    projects_first: ClassVar[bool] = True
    kind: Literal["mlp"] = "mlp"
    hidden_dim: int = Field(ge=1)
    """Width F of the hidden features."""
    activation: Activation
    """The activation function."""
    bias: bool = False
    """Whether both linear layers have a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the hidden features."""

    def build_experts(self, dim: int, linear: LinearFactory, out: LinearFactory) -> "MlpFfn":
        return MlpFfn(self, dim, linear, out)

    def part(self, dim: int, n: int) -> Self:
        return self.model_copy(
            update={"hidden_dim": divide_evenly("ffn.hidden_dim", self.hidden_dim, n)}
        )

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input and hidden features before the activation; those after it are recomputed."""
        return float((dim + self.hidden_dim) * at.itemsize)


class MlpFfn(nn.Module):
    """`(x [..., D], ctx) -> [..., D]`."""

    def __init__(self, config: Mlp, dim: int, linear: LinearFactory, out: LinearFactory) -> None:
        super().__init__()
        self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]
        self.dropout = config.dropout
        self.up = linear(dim, config.hidden_dim, bias=config.bias)
        self.down = out(config.hidden_dim, dim, bias=config.bias)

    def __call__(self, x: xD, ctx: Context, apply: Apply = apply_linear) -> xD:
        return self.mix([apply(layer, x) for layer in self.projections()], ctx, apply)

    def projections(self) -> list[nn.Module]:
        """The linear layer of the input."""
        return [self.up]

    def mix(self, projected: list[mx.array], ctx: Context, apply: Apply = apply_linear) -> mx.array:
        """The output for that of `projections`."""
        return down(self.down, apply, self.activation, self.dropout, ctx)(*projected)
