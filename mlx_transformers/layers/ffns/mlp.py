"""The two-layer feed-forward network."""

from collections.abc import Callable
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import Pass
from ...ops.activations import ACTIVATIONS, kept_features
from ...recipe.config import Kind
from ..linear import ResidualLinear
from .expert import Apply, Linear, plain

Activation = Literal[
    "relu", "gelu", "gelu_tanh", "gelu_quick", "silu", "relu2", "sigmoid", "tanh", "identity"
]


class Mlp(Kind):
    """Two linear maps around an activation: `down(act(up(x)))`.

    Vaswani et al. 2017, section 3.3 (relu); GPT-2 and BERT use gelu; relu²: So et al. 2021.
    """

    kind: Literal["mlp"] = "mlp"
    hidden_dim: int = Field(ge=1)
    """Width F between the two maps."""
    activation: Activation
    """What stands between them."""
    bias: bool = False
    """Whether both maps have a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the hidden features."""

    def build(self, dim: int, linear: Linear = nn.Linear, out: Linear = ResidualLinear) -> Any:
        return MlpFfn(self, dim, linear, out)

    def kept(self, dim: int, at: Pass) -> float:
        """Input, hidden features before and after the activation, and what that keeps itself."""
        before = 0 if self.activation == "identity" else 1 + kept_features(self.activation, at.cpu)
        hidden = self.hidden_dim * ((before + 1) * at.width + (1 if self.dropout else 0))
        return dim * at.width + hidden


class MlpFfn(nn.Module):
    """`(x [..., D], ctx) -> [..., D]`."""

    def __init__(self, config: Mlp, dim: int, linear: Linear, out: Linear) -> None:
        super().__init__()
        self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]
        self.dropout = config.dropout
        self.up = linear(dim, config.hidden_dim, bias=config.bias)
        self.down = out(config.hidden_dim, dim, bias=config.bias)

    def __call__(self, x: mx.array, ctx: Context, apply: Apply = plain) -> mx.array:
        h = self.activation(apply(self.up, x))
        return apply(self.down, ctx.dropout(h, self.dropout))
