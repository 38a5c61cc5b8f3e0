"""MLX's packed matrices: codes in 32-bit words, with the scale (and offset) of each group.

Modes, of a matrix `[..., out, in]` in groups of consecutive inputs:

- `affine`: `code · scale + bias`, 2, 3, 4, 5, 6 or 8 bits, groups of 32, 64 or 128.
- `mxfp4`, `mxfp8`: floats of 4 and 8 bits, a power of two per 32 (OCP Microscaling, 2023).
- `nvfp4`: floats of 4 bits, an 8-bit float per 16.
"""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import mlx.core as mx
import numpy as np

from .custom_vjp import custom_vjp
from .device import on_cpu

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]
BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)
ROWS = 8
"""Rows from which a dequantized matrix is faster on the CPU: 12 to 20 times at 128 (Zen 4)."""
FIXED: dict[str, tuple[int, int]] = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}
"""Bits and group size of the modes that have but one of each."""
OFFSET_BITS = {"affine": 32.0, "mxfp4": 8.0, "mxfp8": 8.0, "nvfp4": 8.0}
"""Bits that a group takes beside its codes, with 16-bit scales and biases."""


@dataclass(frozen=True)
class Packing:
    """How a matrix is packed.

    Attributes:
        bits: of a code.
        group_size: inputs that share a scale.
        mode: how codes become numbers.
    """

    bits: int = 4
    group_size: int = 64
    mode: Mode = "affine"

    def fault(self) -> str | None:
        """Return a sentence on why MLX has no such packing; None if it has."""
        if self.mode not in get_args(Mode):
            return f"mode '{self.mode}' doesn't exist; there are {', '.join(get_args(Mode))}"
        if self.mode in FIXED:
            bits, size = FIXED[self.mode]
            if (self.bits, self.group_size) != (bits, size):
                return (
                    f"{self.mode} has {bits} bits in groups of {size}, not {self.bits} in groups "
                    f"of {self.group_size}"
                )
            return None
        if self.bits not in BITS:
            return f"there are no {self.bits} bits; take {', '.join(map(str, BITS[:-1]))} or 8"
        if self.group_size not in GROUPS:
            return f"there are no groups of {self.group_size}; take 32, 64 or 128"
        return None

    @property
    def bits_per_weight(self) -> float:
        """Bits of a weight on average, its share of the scales included (16 bits in `affine`)."""
        return self.bits + OFFSET_BITS[self.mode] / self.group_size

    def table(self) -> dict[str, int | str]:
        """Return it as mlx-lm's config.json writes it."""
        table = asdict(self)
        return {key: table[key] for key in ("group_size", "bits", "mode")}


def pack(weight: mx.array, how: Packing) -> list[mx.array]:
    """Return `[words, scales]` and, in mode `affine`, `biases` of a matrix `[..., out, in]`."""
    return list(mx.quantize(weight, group_size=how.group_size, bits=how.bits, mode=how.mode))


def unpack(parts: list[mx.array], how: Packing, dtype: mx.Dtype = mx.float32) -> mx.array:
    """Return the matrix that `pack` packed."""
    integers, scales, *biases = parts
    if how.mode == "affine":
        scales, biases = scales.astype(dtype), [offset.astype(dtype) for offset in biases]
    return mx.dequantize(
        integers,
        scales,
        biases[0] if biases else None,
        group_size=how.group_size,
        bits=how.bits,
        mode=how.mode,
        dtype=dtype,
    )


def rounded(weight: mx.array, how: Packing) -> mx.array:
    """Return the matrix as `pack` followed by `unpack` gives it, in its dtype."""
    return unpack(pack(weight, how), how, weight.dtype)


def straight_through(weight: mx.array, how: Packing) -> mx.array:
    """`rounded`, whose gradient is that of the identity."""
    run = custom_vjp(lambda w: rounded(w, how), lambda primals, upstream, _: upstream)
    out: mx.array = run(weight)
    return out


def product(x: mx.array, parts: list[mx.array], how: Packing) -> mx.array:
    """Return `x [..., in]` times the transposed packed matrix: `[..., out]`, in the dtype of `x`.

    On the CPU, where MLX's product takes as long for each further row, many rows are multiplied by
    the dequantized matrix. The backward pass dequantizes it again: a frozen model is never in
    memory as a whole.
    """
    integers, *floats = parts
    scales, *biases = (p.astype(x.dtype) if how.mode == "affine" else p for p in floats)
    if on_cpu() and x.size // x.shape[-1] >= ROWS:
        return _dequantized_product(x, [integers, scales, *biases], how)
    return mx.quantized_matmul(
        x,
        integers,
        scales,
        biases[0] if biases else None,
        group_size=how.group_size,
        bits=how.bits,
        mode=how.mode,
    )


def _dequantized_product(x: mx.array, parts: list[mx.array], how: Packing) -> mx.array:
    def forward(x: mx.array, *parts: mx.array) -> mx.array:
        return x @ unpack(list(parts), how, x.dtype).swapaxes(-1, -2)

    def backward(
        primals: tuple[mx.array, ...], upstream: mx.array, _: mx.array
    ) -> tuple[mx.array, ...]:
        # wait for the gradient: otherwise `mx.compile` saves the matrix of the forward pass
        parts = mx.depends(list(primals[1:]), [upstream])
        return upstream @ unpack(parts, how, upstream.dtype), *map(mx.zeros_like, primals[1:])

    out: mx.array = custom_vjp(forward, backward)(x, *parts)
    return out


def packed_codes(codes: np.ndarray, bits: int) -> mx.array:
    """Pack codes `[out, in]` into words `[out, in · bits / 32]`, lowest bits first.

    Codes of 3, 5 and 6 bits straddle words.
    """
    shifts = np.arange(bits, dtype=np.uint8)
    stream = (codes[..., None].astype(np.uint8) >> shifts) & 1
    packed = np.packbits(stream.reshape(len(codes), -1), axis=-1, bitorder="little")
    return mx.array(np.ascontiguousarray(packed).view("<u4"))
