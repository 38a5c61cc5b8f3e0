"""Block-wise 8-bit optimizer state: each block of 256 elements has a scale of its own.

    y = |x| / max |x|          code = round(c(y))          x = sign · c^-1(code) · max |x|

c is the dynamic tree of Dettmers et al. 2022 (section 2.2 and appendix F) as a function: linear
within a decade, and twice as many codes in every decade as in the one below. With
`e = ceil(log10 y) + 6`, from 0 (all below 1e-6) to 6 (above 0.1):

    c(y) = 2^e - 1 + 2^e (10^(6-e) y - 0.1) / 0.9           c(y) = 10^6 y  for e = 0

so c goes from 0 to 127. Differences from the paper: its codes are the middles of intervals, ours
their upper ends, so that the largest element of a block is exact and does not shrink with every
update; blocks have 256 elements, as in the authors' later code, not 2048; and a second moment is
stored as its root, which reaches down to 1e-14 of the largest, since Adam divides by it.
"""

from typing import Any

import mlx.core as mx
import numpy as np

BLOCK = 256
"""Elements that share a scale."""

MIN_SIZE = 4096
"""Arrays of fewer elements stay float32: gains and biases, which are few and sensitive."""

DECADES = 7
MAX_CODE = 2**DECADES - 1
"""The code of 1."""


class Int8:
    """`{"code": [blocks, 256], "scale": [blocks, 1]}`: int8 codes; for arrays that are never
    negative uint8 codes of roots, at twice the resolution."""

    def pack(self, x: mx.array, positive: bool, key: mx.array | None) -> mx.array | dict[str, Any]:
        """Return the array as codes and scales, its last block padded with zeros."""
        if x.size < MIN_SIZE:
            return x
        flat = x.reshape(-1)
        flat = mx.pad(flat, (0, -x.size % BLOCK)).reshape(-1, BLOCK)
        flat = mx.sqrt(flat) if positive else flat
        size = mx.abs(flat)
        scale = mx.max(size, axis=-1, keepdims=True)
        c = compand(size / mx.where(scale > 0, scale, 1.0))
        c = 2.0 * c if positive else c
        drawn = mx.random.uniform(shape=c.shape, key=key) if key is not None else 0.5
        code = mx.floor(c + drawn)
        if positive:
            return {"code": code.astype(mx.uint8), "scale": scale}
        return {"code": (mx.sign(flat) * code).astype(mx.int8), "scale": scale}

    def unpack(self, packed: mx.array | dict[str, Any], like: mx.array) -> mx.array:
        """Return the decoded array, float32."""
        if isinstance(packed, mx.array):
            return packed
        code, scale = packed["code"], packed["scale"]
        if code.dtype == mx.uint8:
            x = mx.square(mx.take(mx.array(ROOTS), code) * scale)
        else:
            x = mx.take(mx.array(SIGNED), code.astype(mx.int32) + MAX_CODE) * scale
        return x.reshape(-1)[: like.size].reshape(like.shape)


def compand(y: mx.array) -> mx.array:
    """Return c(y) of the module's docstring, for y from 0 to 1."""
    e = mx.clip(mx.ceil(mx.log10(mx.maximum(y, 1e-9))) + (DECADES - 1), 0, DECADES - 1)
    codes = mx.power(2.0, e)
    within = (y * mx.power(10.0, DECADES - 1 - e) - 0.1) / 0.9
    return mx.minimum(mx.where(e == 0, y * 1e6, codes - 1.0 + codes * within), float(MAX_CODE))


def expand(c: np.ndarray) -> np.ndarray:
    """Return y for c(y): the inverse of `compand`."""
    e = np.floor(np.log2(c + 1.0))
    within = (c + 1.0) / np.exp2(e) - 1.0
    return np.where(e == 0, c * 1e-6, 10.0 ** (e - DECADES + 1) * (0.1 + 0.9 * within))


ROOTS = expand(np.minimum(np.arange(256) / 2, MAX_CODE)).astype(np.float32)
"""Values of the uint8 codes, relative to the scale."""

SIGNED = np.concatenate(
    [-expand(np.arange(MAX_CODE, 0.0, -1)), expand(np.arange(MAX_CODE + 1.0))]
).astype(np.float32)
"""Values of the int8 codes from -127 to 127, relative to the scale."""
