"""Quantized layers: which weights are packed in few bits, how, and the way in and out.

Packed weights are frozen. Products read them as they are; `matrix` of linear.py dequantizes them.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten
from pydantic import Field, model_validator

from ..core.errors import RecipeError
from ..core.names import nearest
from ..core.tree import Tree
from ..ops.packed import GROUPS, Mode, Packing
from ..recipe.config import Config
from .linear import PackedLinear, PackedMatrix, ResidualLinear, matrix

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
PARTS = ("weight", "scales", "biases")
"""Names of the arrays of a packed matrix."""


class LayerPacking(Config):
    """How a weight is packed."""

    bits: int = 4
    """Bits of a number: 2, 3, 4, 5, 6 or 8."""
    group_size: int = 64
    """Inputs that share a scale: 32, 64 or 128 (`mxfp4`, `mxfp8`: 32; `nvfp4`: 16)."""
    mode: Mode = "affine"
    """Integers with a scale and an offset (`affine`), or floats of 4 or 8 bits."""

    @model_validator(mode="after")
    def _exists(self) -> "LayerPacking":
        if fault := self.how.fault():
            raise ValueError(f"{fault}.")
        return self

    @property
    def how(self) -> Packing:
        """The packing."""
        return Packing(self.bits, self.group_size, self.mode)


class OneLayer(LayerPacking):
    """A layer that is packed otherwise."""

    path: str
    """The layer's path, as `mlxt show RECIPE --modules` lists it."""


class Packed(LayerPacking):
    """Weights that are stored in few bits, as `mlxt quantize RUN` and `mlxt import DIR` write it.

    They are frozen: train adapters on them, or the plain model.
    """

    layers: tuple[OneLayer, ...] = ()
    """Layers that are packed otherwise."""
    plain: tuple[str, ...] = ()
    """Paths of layers that are not packed."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    """Dtype of the scales and offsets on disk; float32 in memory."""
    source: str | None = Field(None)
    """The run or folder that the weights were quantized from."""

    def choices(self, model: nn.Module) -> dict[str, Packing]:
        """Return the packing of every packed layer by path.

        Raises:
            RecipeError: a path names no layer that can be packed, or a group doesn't divide one.
        """
        able = packable(model)
        packings = {layer.path: layer.how for layer in self.layers}
        for path in (*packings, *self.plain):
            if path not in able:
                raise RecipeError(_no_layer(path, able))
        chosen = {path: packings.get(path, self.how) for path in able if path not in self.plain}
        for path, how in chosen.items():
            check_fit(path, able[path], how)
        return chosen


def packed_table(
    model: nn.Module, usual: Packing, chosen: Mapping[str, Packing], dtype: str | None = None
) -> Packed:
    """Return the table of a model whose layers are packed as in `chosen`, by path."""
    others = [(path, how) for path, how in chosen.items() if how != usual]
    return Packed.model_validate(
        {
            **usual.table(),
            "layers": tuple(OneLayer(path=path, **vars(how)) for path, how in others),
            "plain": tuple(path for path in packable(model) if path not in chosen),
            "dtype": dtype or "float16",
        }
    )


def packable(model: nn.Module) -> dict[str, nn.Module]:
    """Return every layer whose weight can be packed, by path, packed ones included."""
    return {path: module for path, module in sorted(model.named_modules()) if _able(module)}


def packing_of(layer: nn.Module) -> Packing | None:
    """How the weight of a layer is packed; None where it is plain."""
    if isinstance(layer, PackedMatrix):
        return layer.packing
    if isinstance(layer, nn.QuantizedLinear | nn.QuantizedEmbedding):
        return Packing(layer.bits, layer.group_size, cast(Mode, layer.mode))
    return None


def packed_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, Packing]]:
    """Yield every packed layer with its path and packing."""
    for path, module in packable(model).items():
        if (how := packing_of(module)) is not None:
            yield path, module, how


def divisible(layer: nn.Module) -> bool:
    """Return whether groups of some size divide the inputs of a layer."""
    return matrix(layer).shape[-1] % min(GROUPS) == 0


def check_fit(path: str, layer: nn.Module, how: Packing) -> None:
    """Refuse a group that doesn't divide the inputs of a layer.

    Raises:
        RecipeError: it doesn't; the message names groups that do.
    """
    width = matrix(layer).shape[-1]
    if width % how.group_size == 0:
        return
    able = [size for size in (32, 64, 128) if width % size == 0]
    cure = f"take groups of {' or '.join(map(str, able))}" if able else "leave it plain"
    raise RecipeError(
        f"The layer {path} has {width} inputs, which groups of {how.group_size} don't divide: "
        f"{cure}."
    )


def pack_layers(model: nn.Module, choices: Mapping[str, Packing]) -> None:
    """Pack the weights of some layers as MLX rounds them."""
    able, changed = packable(model), {}
    for path, how in choices.items():
        layer = able[path]
        if isinstance(layer, PackedMatrix):
            layer.pack(how)
        else:
            changed[path] = _packed_layer(layer, how)
    model.update_modules(tree_unflatten(list(changed.items())))


def set_parts(model: nn.Module, path: str, parts: list[mx.array]) -> None:
    """Give a packed layer its arrays: words, scales and, in mode `affine`, biases."""
    values = (parts[0], *(_wide(part) for part in parts[1:]))
    names = [f"{path}.{name}" for name in PARTS]
    model.update(tree_unflatten(list(zip(names, values, strict=False))))


def stored(model: nn.Module, dtype: str) -> Tree:
    """Return the parameters of a model with scales and offsets in the dtype that disks hold."""
    narrow = {f"{path}.{part}" for path, *_ in packed_layers(model) for part in PARTS[1:]}

    def one(name: str, array: mx.array) -> mx.array:
        floating = mx.issubdtype(array.dtype, mx.floating)
        return array.astype(DTYPES[dtype]) if name in narrow and floating else array

    return tree_unflatten([(n, one(n, a)) for n, a in tree_flatten(model.parameters())])


def stored_parts(
    model: nn.Module, packed: Packed | None
) -> Iterator[tuple[str, list[mx.array], Packing]]:
    """Yield the arrays of each packed layer, as disks hold them, with its path and packing."""
    if packed is None:
        return
    arrays = dict(tree_flatten(stored(model, packed.dtype)))
    for path, _, how in packed_layers(model):
        names = [f"{path}.{part}" for part in PARTS]
        yield path, [arrays[name] for name in names if name in arrays], how


def plain_parameters(model: nn.Module) -> dict[str, mx.array]:
    """Return the parameters of a model by path, packed ones dequantized."""
    parameters = dict(tree_flatten(model.parameters()))
    for path, layer, _ in packed_layers(model):
        for part in PARTS:
            parameters.pop(f"{path}.{part}", None)
        parameters[f"{path}.weight"] = matrix(layer)
    return parameters


class PackedEmbedding(nn.QuantizedEmbedding):
    """A packed table whose rows are float32 where the scales have no dtype of their own."""

    def __call__(self, ids: mx.array) -> mx.array:
        packed, scales, *biases = [self[name][ids] for name in PARTS if name in self]
        return mx.dequantize(
            packed,
            scales,
            biases[0] if biases else None,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
            dtype=None if self.mode == "affine" else mx.float32,
        )


def _able(module: nn.Module) -> bool:
    if isinstance(module, PackedMatrix):
        return "weight" in module
    plain = type(module) in (nn.Linear, ResidualLinear, nn.Embedding)
    return plain or isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding)


def _packed_layer(layer: nn.Module, how: Packing) -> nn.Module:
    if isinstance(layer, nn.Embedding):
        return PackedEmbedding.from_embedding(layer, how.group_size, how.bits, how.mode)
    return PackedLinear.from_linear(layer, how.group_size, how.bits, how.mode)


def _wide(part: mx.array) -> mx.array:
    return part.astype(mx.float32) if mx.issubdtype(part.dtype, mx.floating) else part


def _no_layer(path: str, able: Mapping[str, nn.Module]) -> str:
    match = nearest(path, list(able))
    hint = f" Did you mean '{match}'?" if match else ""
    return f"No layer '{path}' can be packed.{hint} mlxt show --modules lists the layers."
