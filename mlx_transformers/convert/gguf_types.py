"""Tensor types of GGUF files and how their blocks decode.

Layouts: ggml, `ggml-common.h` (blocks) and `ggml-quants.c` (`dequantize_row_*`). A block of a
quantized type holds 32 or 256 consecutive numbers of a row: one or more scales and packed integers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TensorType:
    """A tensor type.

    Attributes:
        name: its name in ggml.
        block: numbers per block.
        size: bytes per block.
        dtype: of an unquantized type, as numpy names it.
        decode: of a quantized type: blocks `[n, size]` of bytes to numbers `[n, block]`.
    """

    name: str
    block: int
    size: int
    dtype: str = ""
    decode: Callable[[Bytes], Floats] | None = None

    @property
    def readable(self) -> bool:
        """Whether its numbers can be decoded here."""
        return bool(self.dtype or self.decode)


def q4_0(x: Bytes) -> Floats:
    """`d (q - 8)`, q of 4 bits."""
    return _half(x, 0) * (_nibbles(x[:, 2:]) - 8)


def q4_1(x: Bytes) -> Floats:
    """`d q + m`, q of 4 bits."""
    return _half(x, 0) * _nibbles(x[:, 4:]) + _half(x, 2)


def q5_0(x: Bytes) -> Floats:
    """`d (q - 16)`, q of 5 bits."""
    return _half(x, 0) * (_nibbles(x[:, 6:]) + 16 * _bits(x[:, 2:6]) - 16)


def q5_1(x: Bytes) -> Floats:
    """`d q + m`, q of 5 bits."""
    return _half(x, 0) * (_nibbles(x[:, 8:]) + 16 * _bits(x[:, 4:8])) + _half(x, 2)


def q8_0(x: Bytes) -> Floats:
    """`d q`, q of 8 bits."""
    return _half(x, 0) * x[:, 2:].view(np.int8).astype(np.float32)


def q4_k(x: Bytes) -> Floats:
    """`d s q - e m` with a 6-bit scale s and minimum m for each 32 numbers; q of 4 bits."""
    return _k_blocks(x, _nibbles(x[:, 16:].reshape(-1, 32)).reshape(len(x), 8, 32))


def q5_k(x: Bytes) -> Floats:
    """As `q4_k`, q of 5 bits: bit i of byte j is the fifth bit of number j in part i."""
    low = _nibbles(x[:, 48:].reshape(-1, 32)).reshape(len(x), 8, 32)
    high = x[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return _k_blocks(x, low + 16 * high.astype(np.float32))


def q6_k(x: Bytes) -> Floats:
    """`d s (q - 32)` with an 8-bit scale s for each 16 numbers; q of 6 bits."""
    n = len(x)
    low = x[:, :128].reshape(n, 2, 1, 2, 32) >> np.array([0, 4], np.uint8)[:, None, None] & 15
    high = x[:, 128:192].reshape(n, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    q = low.reshape(n, 2, 4, 32) | high << 4
    scales = x[:, 192:208].view(np.int8).astype(np.float32).reshape(n, 16, 1)
    numbers = (q.astype(np.float32) - 32).reshape(n, 16, 16)
    return _half(x, 208) * (scales * numbers).reshape(n, 256)


def _k_blocks(x: Bytes, q: Floats) -> Floats:
    """Blocks of eight parts of 32 numbers `q [n, 8, 32]`, whose scales and minima are packed."""
    a, b, c = (x[:, i : i + 4] for i in (4, 8, 12))
    scales = np.concatenate([a & 63, c & 15 | a >> 6 << 4], axis=1)
    minima = np.concatenate([b & 63, c >> 4 | b >> 6 << 4], axis=1)
    d, e = _half(x, 0)[:, :, None], _half(x, 2)[:, :, None]
    values: np.ndarray = d * scales[:, :, None] * q - e * minima[:, :, None]
    return values.reshape(len(x), 256)


def _half(x: Bytes, at: int) -> Floats:
    """The float16 at byte `at` of each block, `[n, 1]`."""
    return np.ascontiguousarray(x[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(x: Bytes) -> Floats:
    """The low halves of all bytes of a block, then the high ones."""
    return np.concatenate([x & 15, x >> 4], axis=1).astype(np.float32)


def _bits(x: Bytes) -> Floats:
    """The bits of each block, the lowest first."""
    return np.unpackbits(x, axis=1, bitorder="little").astype(np.float32)


TYPES = {
    0: TensorType("F32", 1, 4, "<f4"),
    1: TensorType("F16", 1, 2, "<f2"),
    2: TensorType("Q4_0", 32, 18, decode=q4_0),
    3: TensorType("Q4_1", 32, 20, decode=q4_1),
    6: TensorType("Q5_0", 32, 22, decode=q5_0),
    7: TensorType("Q5_1", 32, 24, decode=q5_1),
    8: TensorType("Q8_0", 32, 34, decode=q8_0),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144, decode=q4_k),
    13: TensorType("Q5_K", 256, 176, decode=q5_k),
    14: TensorType("Q6_K", 256, 210, decode=q6_k),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1, "<i1"),
    25: TensorType("I16", 1, 2, "<i2"),
    26: TensorType("I32", 1, 4, "<i4"),
    27: TensorType("I64", 1, 8, "<i8"),
    28: TensorType("F64", 1, 8, "<f8"),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2, "bfloat16"),
}
"""By the number of the type."""
