"""Base of feed-forward networks: linear layers, a function of their outputs, a down projection."""

from typing import ClassVar, Self

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import xD
from ..kinds import Apply, ExpertKind, LinearFactory
from ..sharding import divide_evenly
from .down import down
from .expert import apply_linear


class DenseKind(ExpertKind):
    """Fields of a feed-forward network with one hidden layer.

    Attributes:
        inputs: names of the linear layers that read the input.
    """

    projects_first: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]]
    hidden_dim: int = Field(ge=1)
    """Width F of the hidden features."""
    bias: bool = False
    """Whether the linear layers have a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the hidden features."""

    def part(self, dim: int, n: int) -> Self:
        return self.model_copy(
            update={"hidden_dim": divide_evenly("ffn.hidden_dim", self.hidden_dim, n)}
        )

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, and the outputs of the first linear layers; hidden features are recomputed."""
        return float((dim + len(self.inputs) * self.hidden_dim) * at.itemsize)


class DenseFfn(nn.Module):
    """`(x [..., D], ctx) -> [..., D]`, for a subclass that computes the hidden features."""

    def __init__(
        self, config: DenseKind, dim: int, linear: LinearFactory, out: LinearFactory
    ) -> None:
        super().__init__()
        self.config, self.dropout = config, config.dropout
        for name in config.inputs:
            self[name] = linear(dim, config.hidden_dim, bias=config.bias)
        self.down = out(config.hidden_dim, dim, bias=config.bias)

    def hidden(self, *projected: mx.array) -> mx.array:
        """The hidden features `[..., F]`, pointwise in the outputs of `projections`."""
        raise NotImplementedError

    def __call__(self, x: xD, ctx: Context, apply: Apply = apply_linear) -> xD:
        return self.mix([apply(layer, x) for layer in self.projections()], ctx, apply)

    def projections(self) -> list[nn.Module]:
        """The linear layers of the input."""
        return [self[name] for name in self.config.inputs]

    def mix(self, projected: list[mx.array], ctx: Context, apply: Apply = apply_linear) -> mx.array:
        """The output for those of `projections`."""
        return down(self.down, apply, self.hidden, self.dropout, ctx)(*projected)
