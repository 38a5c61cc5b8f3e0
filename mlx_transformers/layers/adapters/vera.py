"""VeRA: low-rank updates whose random matrices all layers share; vectors alone are trained."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.errors import RecipeError
from ..linear import Product, matrix
from ..parameter import Role
from .adapted import Update
from .adapter import LayerAdapterKind
from .switch import Adaptation, Added
from .targets import Target


class Vera(LayerAdapterKind):
    """Vector-based updates: `W + Λ_b B Λ_d A`, with frozen random A and B that layers share.

    Kopiczko et al. 2023, "VeRA: Vector-based Random Matrix Adaptation", equation 2. Layers of other
    widths use the first rows of B and the first columns of A.
    """

    kind: Literal["vera"] = "vera"
    rank: int = Field(256, ge=1)
    """Rank R of the shared matrices."""
    d_start: float = Field(0.1, gt=0)
    """Start of the diagonal of Λ_d; that of Λ_b is zero."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the input of the updates."""

    def attach(self, model: nn.Module, adaptation: Adaptation) -> None:
        shapes = [matrix(target.module).shape for target in self.chosen(model)]
        if any(len(shape) != 2 for shape in shapes):
            raise RecipeError(
                "adapt.kind = 'vera' has no form for stacked experts: take 'lora', or leave them "
                'out with adapt.exclude = ["experts"].'
            )
        adaptation["shared"] = SharedPair(
            self.rank, max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
        )
        super().attach(model, adaptation)

    def update(
        self, target: Target, shape: tuple[int, ...], adaptation: Adaptation
    ) -> "VeraUpdate":
        return VeraUpdate(shape, self, Shared(adaptation))


class SharedPair(Added):
    """The frozen matrices `A [R, in]` and `B [out, R]` of the widest layer."""

    roles: ClassVar[dict[str, Role]] = {"a": "own", "b": "own"}

    def __init__(self, rank: int, out: int, width: int) -> None:
        super().__init__()
        self.a = _kaiming((rank, width))
        self.b = _kaiming((out, rank))
        self.freeze()


class Shared:
    """A reference to the shared pair that doesn't make it a child of each layer."""

    def __init__(self, adaptation: Adaptation) -> None:
        self.adaptation = adaptation

    def pair(self, shape: tuple[int, ...], dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        """The parts of A `[R, in]` and B `[out, R]` for a layer of `shape`, in a dtype."""
        shared = self.adaptation["shared"]
        return shared.a[:, : shape[1]].astype(dtype), shared.b[: shape[0]].astype(dtype)


class VeraUpdate(Update):
    """The trained diagonals `d [R]` and `b [out]` of one layer."""

    roles: ClassVar[dict[str, Role]] = {"d": "vector", "b": "vector"}

    def __init__(self, shape: tuple[int, ...], config: Vera, shared: Shared) -> None:
        super().__init__()
        self.d = mx.full((config.rank,), config.d_start)
        self.b = mx.zeros((shape[0],))
        self.shape, self.shared, self.rate = shape, shared, config.dropout

    def matrix(self, weight: mx.array) -> mx.array:
        a, b = self.shared.pair(self.shape, weight.dtype)
        low = (b * self.d.astype(weight.dtype)) @ a
        return weight + self.b[:, None].astype(weight.dtype) * low

    def product(self, x: mx.array, dropped: mx.array, frozen: Product) -> mx.array:
        a, b = self.shared.pair(self.shape, x.dtype)
        low = ((dropped @ a.T) * self.d.astype(x.dtype)) @ b.T
        return frozen(x) + low * self.b.astype(x.dtype)


def _kaiming(shape: tuple[int, int]) -> mx.array:
    """Uniform numbers of standard deviation √(2 / fan in); He et al. 2015, equation 10."""
    bound = (6.0 / shape[1]) ** 0.5
    return mx.random.uniform(-bound, bound, shape)
