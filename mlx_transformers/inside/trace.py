"""Collects what the layers of a model show during a forward pass."""

from dataclasses import dataclass, field

import mlx.core as mx

from ..layers.block import BlockModule
from ..models.model import Model


@dataclass
class LayerTrace:
    """Arrays that one layer showed.

    Attributes:
        arrays: by the observer's names; of `added` the last.
        added: the terms of the residual stream, `[B, T, D]`, in their order.
    """

    arrays: dict[str, mx.array] = field(default_factory=dict)
    added: list[mx.array] = field(default_factory=list)

    def matrix(self) -> str | None:
        """Name of the matrix by which the layer's mixer weighs its values, if it has one."""
        return next((name for name in ("attention", "implied") if name in self.arrays), None)


@dataclass
class Trace:
    """An observer that keeps the arrays of each layer, and those outside of layers as `rest`."""

    layers: list[LayerTrace] = field(default_factory=list)
    rest: dict[str, mx.array] = field(default_factory=dict)
    _inside: bool = False

    def observe(self, name: str, array: mx.array) -> mx.array:
        """Keep an array."""
        if name == "layer_input":
            self.layers.append(LayerTrace())
            self._inside = True
        if not self._inside:
            self.rest[name] = array
            return array
        layer = self.layers[-1]
        layer.arrays[name] = array
        if name == "added":
            layer.added.append(array)
        self._inside = name != "layer_output"
        return array


@dataclass(frozen=True)
class Place:
    """A layer among those of all towers.

    Attributes:
        tower: `encoder` or `decoder`.
        mixer: kind of its mixer.
        sublayers: names of the terms that it adds to the residual stream.
    """

    tower: str
    mixer: str
    sublayers: tuple[str, ...]


def places(model: Model) -> list[Place]:
    """The layers in the order that they run; none for models without a stack of blocks."""
    stacks = model.stacks()
    towers = ["encoder", "decoder"][-len(stacks) :]
    if "encode" in model.tasks:
        towers = ["encoder"]
    return [
        Place(tower, layer.config.mixer.kind, _sublayers(layer))
        for tower, stack in zip(towers, stacks, strict=True)
        for layer in stack.layers()
        if isinstance(layer, BlockModule)
    ]


def _sublayers(layer: BlockModule) -> tuple[str, ...]:
    parts = [name for name in ("mixer", "cross", "ffn") if name in layer]
    if layer.arrangement != "sequential":
        parts = [" + ".join(parts)]
    return (*parts, "branch") if "branch" in layer else tuple(parts)
