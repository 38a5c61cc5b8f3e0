"""Layers whose frozen weight an adapter updates: linear layers, stacks of experts, tables, heads.

    y = x update(W)ᵀ + update(b)

The frozen layer is the child `base`, plain or quantized; the child `adapter` is that of a kind
(lora.py, dora.py, ...). Without `base` in its path, a weight has its path in the plain model.
"""

from abc import ABC, abstractmethod
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn

from ...core.errors import RecipeError
from ...ops.lookup import lookup
from ...ops.packed import pack
from ...ops.unembedding import Unembedding
from ..heads import LmHeadModule
from ..linear import (
    AdaptedLayer,
    PackedMatrix,
    Product,
    RowProduct,
    bias_of,
    expert_rows,
    matrix,
    product_with,
    rows_of,
)
from ..packed import PARTS, packing_of
from .switch import Added, Switch


class Wrapper(nn.Module, ABC):
    """A module of an adapted model in the place of the frozen one, which it holds as `base`."""

    base: nn.Module

    def start(self) -> None:
        """Set what begins as a function of the base's weights, once these are there."""

    @abstractmethod
    def merged(self) -> nn.Module:
        """The module without an adapter that computes the same, made of `base`.

        Raises:
            RecipeError: there is none.
        """


class Update(Added, ABC):
    """The trained update of a frozen weight W `[..., out, in]`.

    Attributes:
        rate: dropout on the input of the adapter.
    """

    rate: float = 0.0

    @abstractmethod
    def matrix(self, weight: mx.array) -> mx.array:
        """The updated weight, `[..., out, in]`."""

    def bias(self, bias: mx.array | None) -> mx.array | None:
        """The updated bias `[..., out]`; by default the frozen one."""
        return bias

    def start(self, layer: nn.Module) -> None:
        """Set what begins as a function of the frozen weight; by default nothing."""

    @abstractmethod
    def product(self, x: mx.array, dropped: mx.array, frozen: Product) -> mx.array:
        """The product of x `[..., in]` with the updated weight, `[..., out]`.

        Args:
            x: the input.
            dropped: the input after the adapter's dropout.
            frozen: the product with W.
        """

    def rows(self, ids: mx.array, table: nn.Module) -> mx.array:
        """Rows `[..., in]` of the updated table; by default through the whole of it."""
        return lookup(self.matrix(matrix(table)), ids)

    def expert_rows(
        self, rows: mx.array, dropped: mx.array, layer: nn.Module, product: RowProduct
    ) -> mx.array:
        """Each row through the updated weight and bias of its own expert."""
        return product(rows, self.matrix(matrix(layer)), self.bias(bias_of(layer)))


class Adapted(Wrapper, AdaptedLayer):
    """A frozen layer and the update of its weight.

    Attributes:
        switch: shared by all adapters of the model.
        number: the adapter's number in the model, which chooses its dropout masks.
    """

    def __init__(self, base: nn.Module, update: Update, switch: Switch, number: int) -> None:
        super().__init__()
        self.base, self.adapter = base, update
        self.switch, self.number = switch, number

    def start(self) -> None:
        self.adapter.start(self.base)

    def matrix(self) -> mx.array:
        weight = matrix(self.base)
        return self.adapter.matrix(weight) if self.switch.on else weight

    def bias_vector(self) -> mx.array | None:
        bias = bias_of(self.base)
        return self.adapter.bias(bias) if self.switch.on else bias

    def product(self, x: mx.array) -> mx.array:
        frozen = product_with(self.base)
        if not self.switch.on:
            return frozen(x)
        return self.adapter.product(x, self._dropped(x), frozen)

    def rows(self, ids: mx.array) -> mx.array:
        return self.adapter.rows(ids, self.base) if self.switch.on else rows_of(self.base, ids)

    def expert_rows(self, rows: mx.array, product: RowProduct) -> mx.array:
        if not self.switch.on:
            return expert_rows(self.base, rows, product)
        return self.adapter.expert_rows(rows, self._dropped(rows), self.base, product)

    def head_matrix(self) -> mx.array:
        return self.matrix()

    def merged(self) -> nn.Module:
        weight, bias = self.adapter.matrix(matrix(self.base)), self.adapter.bias(bias_of(self.base))
        set_weight(self.base, weight)
        if bias is not None:
            self.base["bias"] = bias
        return self.base

    def _dropped(self, x: mx.array) -> mx.array:
        return self.switch.dropout(x, self.adapter.rate, self.number)


class AdaptedLinear(Adapted):
    """`x [..., in] -> [..., out]`; over experts it is applied as the stack that it wraps."""

    def __call__(self, x: mx.array) -> mx.array:
        y, bias = self.product(x), self.bias_vector()
        return y if bias is None else y + bias


class AdaptedTable(Adapted):
    """An embedding table; `rows` looks up its vectors.

    Attributes:
        tied: whether a head that is tied to the table reads the update too.
    """

    def __init__(
        self, base: nn.Module, update: Update, switch: Switch, number: int, tied: bool
    ) -> None:
        super().__init__(base, update, switch, number)
        self.tied = tied

    def __call__(self, ids: mx.array) -> mx.array:
        return self.rows(ids)

    def head_matrix(self) -> mx.array:
        return self.matrix() if self.tied else matrix(self.base)


class AdaptedHead(Adapted):
    """A head over the vocabulary whose unembedding is updated."""

    base: LmHeadModule

    def transform(self, h: mx.array) -> mx.array:
        """The input of the unembedding, `[B, T, width]`."""
        return self.base.transform(h)

    def unembedding(self, table: nn.Embedding | None) -> Unembedding:
        """The unembedding with the updated weight."""
        unembedding = self.base.unembedding(table)
        if not self.switch.on:
            return unembedding
        return replace(unembedding, weight=self.adapter.matrix(unembedding.weight), frozen=False)

    def __call__(self, h: mx.array, table: nn.Embedding | None) -> mx.array:
        return self.unembedding(table).logits(self.transform(h))


def adaptable(module: nn.Module) -> bool:
    """Whether an update can wrap a module: it has one weight matrix, and `Adapted` knows it."""
    if isinstance(module, PackedMatrix):
        return "weight" in module
    kinds = (nn.Linear, nn.QuantizedLinear, nn.Embedding, nn.QuantizedEmbedding)
    return isinstance(module, kinds)


def wrap(base: nn.Module, update: Update, switch: Switch, number: int, tied: bool) -> Adapted:
    """Wrap an `adaptable` module; `tied` is read of tables."""
    if isinstance(base, LmHeadModule):
        return AdaptedHead(base, update, switch, number)
    if isinstance(base, nn.Embedding | nn.QuantizedEmbedding):
        return AdaptedTable(base, update, switch, number, tied)
    return AdaptedLinear(base, update, switch, number)


def set_weight(layer: nn.Module, weight: mx.array) -> None:
    """Set the weight `[..., out, in]` of a layer; a quantized layer quantizes it its own way.

    Raises:
        RecipeError: the layer has another shape.
    """
    if tuple(weight.shape) != tuple(matrix(layer).shape):
        raise RecipeError(
            f"A weight {list(weight.shape)} doesn't fit a layer of {list(matrix(layer).shape)}."
        )
    how = packing_of(layer)
    if how is None:
        layer["weight"] = weight.astype(layer["weight"].dtype)
        return
    for name, array in zip(PARTS, pack(weight, how), strict=False):
        old = layer[name]
        layer[name] = array.astype(old.dtype) if mx.issubdtype(old.dtype, mx.floating) else array
