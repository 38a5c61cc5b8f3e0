"""Linear layers that write into the residual stream, and the effective weight of any layer."""

from typing import Protocol, runtime_checkable

import mlx.core as mx
import mlx.nn as nn

from ..ops.packed import Packing, pack, unpack


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
        words, self.scales, *biases = pack(self.matrix(), how)
        self.weight = words
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
        own: mx.array = layer.matrix()
        return own
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
