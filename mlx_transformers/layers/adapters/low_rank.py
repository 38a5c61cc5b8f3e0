"""The low-rank update of a weight, which LoRA and DoRA share: `W + s B A`."""

import math
from typing import ClassVar, Literal, TypeVar

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...ops.lookup import lookup
from ..linear import Product, RowProduct, bias_of, matrix, rows_of
from ..parameter import Role
from .adapted import Update
from .adapter import Factor, LayerAdapterKind, Rank
from .targets import Target, matches

T = TypeVar("T")


class LowRankKind(LayerAdapterKind):
    """Fields of the kinds with a low-rank update."""

    rank: int = Field(8, ge=1)
    """Rank R of the updates."""
    alpha: float = Field(16.0, gt=0)
    """Numerator of the factor s of the updates."""
    scaling: Literal["alpha", "rslora"] = "alpha"
    """The factor s: alpha / R, or alpha / √R, which suits large ranks (Kalajdzievski 2023)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the input of the updates."""
    ranks: dict[str, Rank] = Field(default_factory=dict)
    """Ranks of single layers, by patterns as in `targets`; the first that matches counts."""
    alphas: dict[str, Factor] = Field(default_factory=dict)
    """Values of alpha of single layers, by patterns as in `targets`."""
    tied_head: bool = True
    """Whether a head that is tied to an adapted embedding reads its update too."""

    def rank_of(self, target: Target) -> int:
        """Rank R of a layer's update."""
        return first(self.ranks, target, self.rank)

    def factor_of(self, target: Target) -> float:
        """The factor s of a layer's update."""
        rank = self.rank_of(target)
        alpha = first(self.alphas, target, self.alpha)
        return alpha / (math.sqrt(rank) if self.scaling == "rslora" else rank)

    def tied_update(self) -> bool:
        return self.tied_head

    def other_patterns(self) -> dict[str, list[str]]:
        return {"adapt.ranks": list(self.ranks), "adapt.alphas": list(self.alphas)}


def first(table: dict[str, T], target: Target, default: T) -> T:
    """The value of the first pattern that names a layer."""
    return next((value for key, value in table.items() if matches(target, key)), default)


class LowRank(Update):
    """`W + s B A`, with `A [..., R, in]` and `B [..., out, R]`; Hu et al. 2021, section 4.1.

    A is uniform in ±1/√in and B zero, so that the model starts as its base. Of an embedding table
    `[V, D]` B holds the rows of the tokens.
    """

    roles: ClassVar[dict[str, Role]] = {"lora_a": "matrix", "lora_b": "matrix"}

    def __init__(self, shape: tuple[int, ...], rank: int, scale: float, rate: float) -> None:
        super().__init__()
        *stack, out, width = shape
        bound = width**-0.5
        self.lora_a = mx.random.uniform(-bound, bound, (*stack, rank, width))
        self.lora_b = mx.zeros((*stack, out, rank))
        self.scale, self.rate = scale, rate

    def delta(self) -> mx.array:
        """`s B A`, `[..., out, in]`."""
        return self.scale * (self.lora_b @ self.lora_a)

    def matrix(self, weight: mx.array) -> mx.array:
        return weight + self.delta().astype(weight.dtype)

    def low(self, x: mx.array) -> mx.array:
        """`s x Aᵀ Bᵀ`, `[..., out]`."""
        return (self.scale * (x @ self.lora_a.T.astype(x.dtype))) @ self.lora_b.T.astype(x.dtype)

    def product(self, x: mx.array, dropped: mx.array, frozen: Product) -> mx.array:
        return frozen(x) + self.low(dropped)

    def rows(self, ids: mx.array, table: nn.Module) -> mx.array:
        rows, low = rows_of(table, ids), self.scale * lookup(self.lora_b, ids)
        return rows + (low @ self.lora_a.astype(low.dtype)).astype(rows.dtype)

    def expert_rows(
        self, rows: mx.array, dropped: mx.array, layer: nn.Module, product: RowProduct
    ) -> mx.array:
        y = product(rows, matrix(layer), bias_of(layer))
        low = product(dropped, self.lora_a.astype(rows.dtype), None)
        return y + product(self.scale * low, self.lora_b.astype(rows.dtype), None)
