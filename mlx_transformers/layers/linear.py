"""Linear layers that write into the residual stream, and the effective weight of any layer."""

from typing import Protocol, runtime_checkable

import mlx.core as mx
import mlx.nn as nn


class WritesResidual:
    """Marks a module whose output is added to the residual stream.

    Initialisation may scale such weights with depth (GPT-2: Radford et al. 2019, section 2.3), and
    tensor parallelism splits them by their inputs.
    """


class ResidualLinear(nn.Linear, WritesResidual):
    """`nn.Linear` whose output is added to the residual stream."""


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
        )
    if isinstance(layer, nn.Linear | nn.Embedding | nn.AllToShardedLinear | nn.ShardedToAllLinear):
        weight: mx.array = layer["weight"]
        return weight
    raise TypeError(f"{type(layer).__name__} has no weight matrix: give it a method `matrix()`.")
