"""Blocks of quantized GGUF tensors: written from numbers, and read as MLX's packed integers.

Layouts and rounding: ggml, `ggml-quants.c` (`quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`). A
block has 32 consecutive numbers of a row and begins with a float16 scale d.
"""

from collections.abc import Callable

import mlx.core as mx
import numpy as np

from ..ops.packed import Packing
from .gguf_types import Bytes, Floats
from .packed import PackedTensor

BLOCK = 32
"""Numbers of a block."""


def encode_q8_0(x: Floats) -> Bytes:
    """Blocks `[n, 34]` of numbers `[n, 32]`: `d = max |x| / 127` and `round(x / d)`, 8 bits."""
    d = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    scaled = x * _inverse(d)
    q = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled)  # ties away from zero
    return np.concatenate([_half(d), q.astype(np.int8).view(np.uint8)], axis=1)


def encode_q4_0(x: Floats) -> Bytes:
    """Blocks `[n, 18]` of numbers `[n, 32]`: `d = m / -8`, m the number of largest magnitude, and
    `min(15, floor(x / d + 8.5))`, 4 bits; byte j has number j and, above it, number j + 16."""
    at = np.abs(x).argmax(axis=1)[:, None]
    d = np.take_along_axis(x, at, axis=1) / np.float32(-8)
    q = np.minimum(15, x * _inverse(d) + np.float32(8.5)).astype(np.uint8)
    return np.concatenate([_half(d), q[:, :16] | q[:, 16:] << 4], axis=1)


ENCODERS: dict[str, Callable[[Floats], Bytes]] = {"Q8_0": encode_q8_0, "Q4_0": encode_q4_0}
"""By the name of a type."""


def encoded(array: mx.array, name: str) -> Bytes:
    """The blocks of an array `[..., n * 32]` in the type of that name.

    Raises:
        ValueError: a scale is beyond the range of float16.
    """
    numbers = np.array(array.astype(mx.float32)).reshape(-1, BLOCK)
    blocks = ENCODERS[name](numbers)
    if not np.isfinite(blocks[:, :2].copy().view("<f2")).all():
        raise ValueError(f"numbers up to {np.abs(numbers).max():,.6g} are beyond {name}")
    return blocks


def packed(name: str, blocks: Bytes, shape: tuple[int, ...]) -> PackedTensor | None:
    """The numbers of blocks as MLX's affine integers, `scale · q + offset` in groups of 32.

    Returns:
        The same numbers, exactly; None for a type that isn't of this form, or an offset beyond the
        range of float16.
    """
    if name not in ("Q4_0", "Q4_1", "Q8_0"):
        return None
    bits = 8 if name == "Q8_0" else 4
    d = _float(blocks, 0)
    if name == "Q8_0":
        q, offset = blocks[:, 2:] ^ 0x80, -128 * d  # from two's complement to 0 ... 255
    else:
        halves = blocks[:, 2 if name == "Q4_0" else 4 :]
        nibbles = np.concatenate([halves & 15, halves >> 4], axis=1)
        q = nibbles[:, 0::2] | nibbles[:, 1::2] << 4
        offset = -8 * d if name == "Q4_0" else _float(blocks, 2)
    if not np.isfinite(offset.astype(np.float16)).all():
        return None
    rows, groups = shape[:-1], shape[-1] // BLOCK
    words = np.ascontiguousarray(q).view("<u4").reshape(*rows, groups * bits)
    scales = (mx.array(each.astype(np.float16).reshape(*rows, groups)) for each in (d, offset))
    return PackedTensor([mx.array(words), *scales], Packing(bits, BLOCK))


def _inverse(d: Floats) -> Floats:
    """1 / d, 0 where d is 0."""
    return np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)


def _half(d: Floats) -> Bytes:
    """The bytes `[n, 2]` of numbers `[n, 1]` as float16."""
    with np.errstate(over="ignore"):
        return d.astype("<f2").view(np.uint8)


def _float(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte `at` of each block, `[n, 1]`."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)
