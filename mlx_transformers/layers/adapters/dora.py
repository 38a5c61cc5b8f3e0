"""DoRA: low-rank updates of the direction of a weight's rows, and a trained magnitude of each."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn

from ...core.errors import RecipeError
from ..linear import Product, RowProduct, bias_of, matrix, rows_of
from ..parameter import Role
from .low_rank import LowRank, LowRankKind
from .switch import Adaptation
from .targets import Target


class Dora(LowRankKind):
    """Weight-decomposed low-rank updates: `W' = m (W + s B A) / ‖W + s B A‖` over each row.

    Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", equation 5; rows are outputs,
    and m starts as the norms of W. The norm has no gradient (section 4.3).
    """

    kind: Literal["dora"] = "dora"

    def update(
        self, target: Target, shape: tuple[int, ...], adaptation: Adaptation
    ) -> "DoraUpdate":
        if len(shape) != 2:
            raise RecipeError(
                f"adapt.kind = 'dora' has no form for the stacked experts of {target.path}: take "
                "'lora', or leave them out with adapt.exclude = [\"experts\"]."
            )
        return DoraUpdate(shape, self.rank_of(target), self.factor_of(target), self.dropout)


class DoraUpdate(LowRank):
    """The update of one weight `[out, in]`."""

    roles: ClassVar[dict[str, Role]] = {"magnitude": "vector", "squares": "own"}

    def __init__(self, shape: tuple[int, ...], rank: int, scale: float, rate: float) -> None:
        super().__init__(shape, rank, scale, rate)
        self.magnitude = mx.ones((shape[0],))
        self.squares = mx.ones((shape[0],))
        self.freeze(keys=["squares"], recurse=False)

    def start(self, layer: nn.Module) -> None:
        """The magnitudes are the norms of the frozen rows."""
        weight = matrix(layer).astype(mx.float32)
        self.squares = (weight * weight).sum(axis=1)
        self.magnitude = mx.sqrt(self.squares)

    def matrix(self, weight: mx.array) -> mx.array:
        moved = weight + self.delta().astype(weight.dtype)
        norm = mx.linalg.norm(moved.astype(mx.float32), axis=1)
        ratio = self.magnitude.astype(mx.float32) / mx.stop_gradient(norm)
        return moved * ratio[:, None].astype(weight.dtype)

    def ratio(self, frozen: Product) -> mx.array:
        """`m / ‖W + s B A‖` of each row, `[out]`, without the sum as a whole.

        `‖W + s B A‖² = ‖W‖² + 2 s Σ B (W Aᵀ) + s² Σ B (A Aᵀ) B`, row by row.
        """
        a, b = self.lora_a.astype(mx.float32), self.lora_b.astype(mx.float32)
        cross = (b * frozen(a).T).sum(axis=1)
        update_square = ((b @ (a @ a.T)) * b).sum(axis=1)
        square = self.squares + 2 * self.scale * cross + self.scale**2 * update_square
        norm = mx.sqrt(mx.maximum(mx.stop_gradient(square), 1e-30))
        return self.magnitude.astype(mx.float32) / norm

    def product(self, x: mx.array, dropped: mx.array, frozen: Product) -> mx.array:
        return super().product(x, dropped, frozen) * self.ratio(frozen).astype(x.dtype)

    def rows(self, ids: mx.array, table: nn.Module) -> mx.array:
        weight = rows_of(table, ids)
        adapted = self.matrix(matrix(table))
        return adapted[ids].astype(weight.dtype)

    def expert_rows(
        self, rows: mx.array, dropped: mx.array, layer: nn.Module, product: RowProduct
    ) -> mx.array:
        return product(rows, self.matrix(matrix(layer)), bias_of(layer))
