"""Looks as JSON: plain lists for programs, and maps packed into bytes for the page."""

import base64
import dataclasses
import math
import zlib
from typing import Any

import numpy as np

PLAIN = 1_000_000
"""Numbers of all maps up to which they are written as lists."""
FINE, COARSE = 255, 31
"""Levels of a packed number, in looks of up to `FINE_NUMBERS` numbers and beyond."""
FINE_NUMBERS = 4_000_000
SMALL = 32
"""Rows and columns of a map's small picture."""
MAPS = ("weights", "cross")
"""Fields of a layer whose arrays are maps `[H, T, S]`."""


def plain(value: object) -> Any:
    """A dataclass, an array or a tree of them as JSON: 5 significant digits, null for NaN."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def packed(look: Any, levels: int) -> dict[str, Any]:
    """A `Look` as JSON whose maps are packed by `pack`."""
    layers = []
    for layer in look.layers:
        maps = {name: getattr(layer, name) for name in MAPS}
        fields = plain(dataclasses.replace(layer, **dict.fromkeys(MAPS)))
        layers.append(fields | {n: None if m is None else pack(m, levels) for n, m in maps.items()})
    tree: dict[str, Any] = plain(dataclasses.replace(look, layers=[]))
    return tree | {"layers": layers}


def pack(maps: np.ndarray, levels: int) -> dict[str, Any]:
    """Maps `[H, T, S]` as text.

    A number w is the byte `round(levels * sqrt(w))`, of magnitudes that are scaled to a sum of at
    most 1 in each row; bytes are compressed (zlib) and written in base64.
    """
    sizes = np.abs(maps)
    sums = sizes.sum(axis=-1, keepdims=True)
    sizes = np.sqrt(sizes / np.maximum(sums, 1.0) if sums.max() > 1.0001 else sizes)
    numbers = np.rint(np.clip(sizes, 0, 1) * levels).astype(np.uint8)
    return {
        "shape": list(maps.shape),
        "levels": levels,
        "data": [_text(zlib.compress(head_map.tobytes(), 6)) for head_map in numbers],
        "small": [_text(small(head_map).tobytes()) for head_map in numbers],
        "small_shape": list(small(numbers[0]).shape),
    }


def unpack(maps: dict[str, Any]) -> np.ndarray:
    """The magnitudes `[H, T, S]` that `pack` wrote, to its precision."""
    _, *shape = maps["shape"]
    rows = [zlib.decompress(base64.b64decode(text)) for text in maps["data"]]
    numbers = np.stack([np.frombuffer(row, np.uint8).reshape(shape) for row in rows])
    sizes: np.ndarray = (numbers / np.float32(maps["levels"])) ** 2
    return sizes


def small(numbers: np.ndarray) -> np.ndarray:
    """The largest number of each block of a map, of which there are at most SMALL x SMALL."""
    for axis in (0, 1):
        starts = np.linspace(
            0, numbers.shape[axis], min(SMALL, numbers.shape[axis]), endpoint=False
        )
        numbers = np.maximum.reduceat(numbers, starts.astype(int), axis=axis)
    return numbers


def count(looks: list[Any]) -> int:
    """Numbers of all maps of looks."""
    layers = [layer for look in looks for layer in look.layers]
    maps = [m for layer in layers for n in MAPS if (m := getattr(layer, n)) is not None]
    return sum(m.size for m in maps)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
