"""Packed weights of MLX's published folders, kept as they are: mlx-lm's quantized models.

`config.json` says in a table `quantization` how weights are packed, and how single modules differ;
modules without `scales` beside their weight are plain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..core.errors import ConvertError
from ..ops.packed import FIXED, Mode, Packing, unpack
from .rows import Row
from .weights import Move, moves


@dataclass(frozen=True)
class PackedTensor:
    """A packed weight.

    Attributes:
        parts: words, scales and, in mode `affine`, biases.
        how: how it is packed.
    """

    parts: list[mx.array]
    how: Packing

    def plain(self, dtype: mx.Dtype = mx.float32) -> mx.array:
        """Return the weight, dequantized."""
        return unpack(self.parts, self.how, dtype)


def packed_tensors(
    tensors: Mapping[str, mx.array], settings: Mapping[str, Any]
) -> dict[str, PackedTensor]:
    """Return the packed weights of a file by name, `MODULE.weight`.

    Args:
        tensors: those of the file.
        settings: the table `quantization` of its config.

    Raises:
        ConvertError: a weight isn't packed as the table says.
    """
    packed = {}
    for name in [n for n in tensors if n.endswith(".scales")]:
        module = name.removesuffix(".scales")
        integers, biases = tensors.get(f"{module}.weight"), tensors.get(f"{module}.biases")
        if integers is None or integers.dtype != mx.uint32:
            continue
        parts = [integers, tensors[name], *([] if biases is None else [biases])]
        packed[f"{module}.weight"] = PackedTensor(parts, _packing(module, parts, settings))
    return packed


def without_parts(
    tensors: Mapping[str, mx.array], packed: Mapping[str, PackedTensor]
) -> dict[str, mx.array]:
    """Return tensors with the packed ones dequantized, and their scales and biases left out."""
    modules = {name.removesuffix("weight") for name in packed}
    part_names = {f"{module}{part}" for module in modules for part in ("scales", "biases")}
    return {
        name: packed[name].plain() if name in packed else array
        for name, array in tensors.items()
        if name not in part_names
    }


def with_parts(
    tensors: Mapping[str, mx.array], packed: Mapping[str, PackedTensor]
) -> dict[str, mx.array]:
    """Return tensors with weights packed, their scales and biases beside them."""
    out = dict(tensors)
    for name, tensor in packed.items():
        module = name.removesuffix("weight")
        names = [f"{module}{part}" for part in ("weight", "scales", "biases")]
        out |= dict(zip(names, tensor.parts, strict=False))
    return out


def packed_ours(
    table: Sequence[Row], plain: Mapping[str, mx.array], theirs: Mapping[str, PackedTensor]
) -> dict[str, PackedTensor]:
    """Return the packed weights under our names, where their layout can be ours.

    Args:
        table: the weight map.
        plain: our parameters, dequantized.
        theirs: the packed weights by published name.
    """
    ours: dict[str, PackedTensor] = {}
    for move in moves(table, plain):
        moved = _moved(move, move.theirs, theirs, load=True)
        ours |= {
            name: tensor
            for name, tensor in zip(move.ours, moved, strict=False)
            if _equals(tensor, plain[name])
        }
    return ours


def packed_theirs(
    table: Sequence[Row], plain: Mapping[str, mx.array], ours: Mapping[str, PackedTensor]
) -> Iterator[tuple[str, PackedTensor]]:
    """Yield the packed weights under published names: the inverse of `packed_ours`.

    Args:
        table: the weight map.
        plain: our parameters, dequantized.
        ours: the packed weights by our names.
    """
    for move in moves(table, plain):
        moved = _moved(move, move.ours, ours, load=False)
        if not moved:
            continue
        expected = move.via.save([plain[name] for name in move.ours])
        pairs = zip(move.theirs, moved, expected, strict=True)
        yield from ((name, tensor) for name, tensor, array in pairs if _equals(tensor, array))


def quantization_table(packed: Mapping[str, PackedTensor]) -> dict[str, Any]:
    """Return the table `quantization` of mlx-lm: the usual packing, and modules that differ."""
    hows = [tensor.how for tensor in packed.values()]
    usual = max(dict.fromkeys(hows), key=hows.count)
    differing = {
        name.removesuffix(".weight"): tensor.how.table()
        for name, tensor in packed.items()
        if tensor.how != usual
    }
    return {**usual.table(), **differing}


def _moved(
    move: Move, names: Sequence[str], packed: Mapping[str, PackedTensor], *, load: bool
) -> list[PackedTensor]:
    """The packed tensors of a move on its other side; none if they aren't packed alike."""
    if any(name not in packed for name in names):
        return []
    tensors = [packed[name] for name in names]
    if len({tensor.how for tensor in tensors}) > 1:
        return []
    run = move.via.load if load else move.via.save
    try:
        parts = [run(list(arrays)) for arrays in zip(*(t.parts for t in tensors), strict=True)]
    except (ValueError, IndexError):
        return []  # a layout of columns, which are in groups here
    return [PackedTensor(list(arrays), tensors[0].how) for arrays in zip(*parts, strict=True)]


def _equals(tensor: PackedTensor, plain: mx.array) -> bool:
    try:
        array = tensor.plain()
    except ValueError:
        return False
    return array.shape == plain.shape and bool(mx.array_equal(array, plain.astype(mx.float32)))


def _packing(module: str, parts: list[mx.array], settings: Mapping[str, Any]) -> Packing:
    entry = settings.get(module)
    options = entry if isinstance(entry, Mapping) else settings
    mode: Mode = options.get("mode") or ("affine" if len(parts) == 3 else "mxfp4")
    size = options.get("group_size") or FIXED.get(mode, (4, 64))[1]
    bits = parts[0].shape[-1] * 32 // (parts[1].shape[-1] * size)
    how = Packing(bits, size, mode)
    if fault := how.fault():
        raise ConvertError(f"The tensor {module}.weight can't be read: {fault}.")
    if (len(parts) == 3) != (mode == "affine"):
        raise ConvertError(
            f"The tensor {module}.weight is of mode '{mode}' by config.json, "
            f"but has {'biases' if len(parts) == 3 else 'no biases'} beside it."
        )
    return how
