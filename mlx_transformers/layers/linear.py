"""Linear layers that write into the residual stream, and the effective weight of any layer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..ops.lookup import lookup
from ..ops.packed import Mode, Packing, pack, product, unpack

Product = Callable[[mx.array], mx.array]
"""`x [..., in] -> x Wᵀ [..., out]` with the weight of a layer, without its bias."""
RowProduct = Callable[[mx.array, mx.array, mx.array | None], mx.array]
"""`(rows, weights [E, out, in], biases [E, out]) -> [..., out]`: each row by its own expert."""


class WritesResidual:
    """Marks a module whose output is added to the residual stream.

    Initialisation may scale such weights with depth (GPT-2: Radford et al. 2019, section 2.3), and
    tensor parallelism splits them by their inputs.
    """


class ResidualLinear(nn.Linear, WritesResidual):
    """`nn.Linear` whose output is added to the residual stream."""


class PackedMatrix(nn.Module):
    """A module that holds a weight `[..., out, in]`, plain or packed.

    Attributes:
        packing: how it is packed; None: it is plain.
    """

    packing: Packing | None = None

    def pack(self, how: Packing) -> None:
        """Pack the weight, which is frozen from now on."""
        packed, self.scales, *biases = pack(self.matrix(), how)
        self.weight = packed
        if biases:
            self.biases = biases[0]
        self.packing = how
        self.freeze(recurse=False, keys=["weight", "scales", "biases"][: 2 + len(biases)])

    def matrix(self) -> mx.array:
        """The weight, dequantized if it is packed."""
        weight: mx.array = self.weight
        if self.packing is None:
            return weight
        parts = [weight, self.scales, *([self.biases] if "biases" in self else [])]
        return unpack(parts, self.packing)


@runtime_checkable
class HasMatrix(Protocol):
    """A module that computes its own weight: an adapter, or a stack of experts."""

    def matrix(self) -> mx.array:
        """Its effective weight, `[..., out, in]`."""


class AdaptedLayer(ABC):
    """A layer with an adapter (layers/adapters), which may compute without its whole weight."""

    @abstractmethod
    def matrix(self) -> mx.array:
        """Its effective weight, `[..., out, in]`."""

    @abstractmethod
    def bias_vector(self) -> mx.array | None:
        """Its effective bias, `[..., out]`."""

    @abstractmethod
    def product(self, x: mx.array) -> mx.array:
        """`x Wᵀ` with its effective weight."""

    @abstractmethod
    def rows(self, ids: mx.array) -> mx.array:
        """Rows of its effective table, `[..., D]`."""

    @abstractmethod
    def expert_rows(self, rows: mx.array, product: RowProduct) -> mx.array:
        """Each row through the effective weight and bias of its own expert."""

    @abstractmethod
    def head_matrix(self) -> mx.array:
        """The weight `[V, D]` of a head that is tied to this table."""


def matrix(layer: nn.Module) -> mx.array:
    """The effective weight of a linear layer, a stack of them, or an embedding table.

    The only way to a weight outside the call of its own layer: adapted weights include their
    adapter, quantized ones are dequantized.

    Returns:
        `[..., out, in]`, or `[V, D]` of a table.

    Raises:
        TypeError: the layer has no weight matrix.
    """
    if isinstance(layer, HasMatrix):
        effective: mx.array = layer.matrix()
        return effective
    if isinstance(layer, nn.QuantizedLinear | nn.QuantizedEmbedding):
        return mx.dequantize(
            layer["weight"],
            layer["scales"],
            layer.get("biases"),
            group_size=layer.group_size,
            bits=layer.bits,
            mode=layer.mode,
            dtype=None if layer.mode == "affine" else mx.float32,
        )
    if isinstance(layer, nn.Linear | nn.Embedding | nn.AllToShardedLinear | nn.ShardedToAllLinear):
        weight: mx.array = layer["weight"]
        return weight
    raise TypeError(f"{type(layer).__name__} has no weight matrix: give it a method `matrix()`.")


def bias_of(layer: nn.Module) -> mx.array | None:
    """The effective bias of a linear layer, `[..., out]`; None where it has none."""
    if isinstance(layer, AdaptedLayer):
        return layer.bias_vector()
    bias: mx.array | None = layer.get("bias")
    return bias


def product_with(layer: nn.Module) -> Product:
    """The product with the weight of a linear layer, without its bias.

    The scales of a quantized weight don't promote the input's dtype.
    """
    if isinstance(layer, AdaptedLayer):
        return layer.product
    if not isinstance(layer, nn.QuantizedLinear):
        return lambda x: x @ matrix(layer).swapaxes(-1, -2)
    parts = [layer[name] for name in ("weight", "scales", "biases") if name in layer]
    how = Packing(layer.bits, layer.group_size, cast(Mode, layer.mode))
    return lambda x: product(x, parts, how)


class PackedLinear(nn.QuantizedLinear):
    """A linear layer with a packed weight, whose products are fast on the CPU too."""

    def __call__(self, x: mx.array) -> mx.array:
        y = product_with(self)(x)
        return y + self["bias"] if "bias" in self else y


def rows_of(table: nn.Module, ids: mx.array) -> mx.array:
    """The rows `[..., D]` of an embedding table for ids `[...]`; of a quantized one, these alone
    are dequantized."""
    if isinstance(table, AdaptedLayer):
        return table.rows(ids)
    if isinstance(table, nn.QuantizedEmbedding):
        rows: mx.array = table(ids)
        return rows
    return lookup(matrix(table), ids)


def expert_rows(layer: nn.Module, rows: mx.array, product: RowProduct) -> mx.array:
    """Rows of a mixture through a stack of E linear layers, each by its own expert."""
    if isinstance(layer, AdaptedLayer):
        return layer.expert_rows(rows, product)
    return product(rows, matrix(layer), bias_of(layer))


def is_frozen(layer: nn.Module) -> bool:
    """Whether nothing in a layer is trained, its adapter included."""
    return not tree_flatten(layer.trainable_parameters())


def tied_matrix(table: nn.Module) -> mx.array:
    """The weight `[V, D]` of a head that is tied to an embedding table."""
    return table.head_matrix() if isinstance(table, AdaptedLayer) else matrix(table)
