"""The two-layer feed-forward network."""

from typing import ClassVar, Literal

import mlx.core as mx

from ...ops.activations import ACTIVATIONS
from ..kinds import LinearFactory
from .dense import DenseFfn, DenseKind

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


class Mlp(DenseKind):
    """A two-layer feed-forward network: `down(act(up(x)))`.

    Vaswani et al. 2017, section 3.3 (relu); GPT-2 and BERT use gelu; relu²: So et al. 2021.
    """

    inputs: ClassVar[tuple[str, ...]] = ("up",)
    kind: Literal["mlp"] = "mlp"
    activation: Activation
    """The activation function."""

    def build_experts(self, dim: int, linear: LinearFactory, out: LinearFactory) -> "MlpFfn":
        return MlpFfn(self, dim, linear, out)


class MlpFfn(DenseFfn):
    """`(x [..., D], ctx) -> [..., D]`."""

    def __init__(self, config: Mlp, dim: int, linear: LinearFactory, out: LinearFactory) -> None:
        super().__init__(config, dim, linear, out)
        self.activation = ACTIVATIONS[config.activation]

    def hidden(self, *projected: mx.array) -> mx.array:
        return self.activation(*projected)
