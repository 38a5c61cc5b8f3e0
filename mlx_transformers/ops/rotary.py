"""Rotary position embedding: rotates queries and keys by an angle proportional to position."""

from functools import lru_cache

import mlx.core as mx
import numpy as np

from ..core.shapes import BHTK
from .device import on_cpu, upcast


def rotate(
    x: BHTK,
    inv_freq: mx.array,
    *,
    offset: mx.array | int = 0,
    positions: mx.array | None = None,
    traditional: bool = False,
    size: float = 1.0,
) -> BHTK:
    """Rotate pairs of features of x `[B, H, T, K]` by `position * inv_freq` radians, same shape.

    RoFormer (Su et al. 2021), equation 34. `inv_freq` `[K'/2]`, or `[B, 1, K'/2]` beside
    `positions`, is radians per position; features beyond K' pass unchanged (partial rotary,
    GPT-NeoX). Positions are
    `offset + arange(T)` (`offset` an int, an array scalar or `[B]`), or `positions [B, T]`, `[T]`.
    Pairs are (i, i + K'/2), or neighbours (2i, 2i + 1), as in the paper, if `traditional`.
    Rotated features are multiplied by `size` (YaRN: Peng et al. 2023, equation 22).
    """
    if positions is None and not on_cpu():
        return rotate_fused(x, inv_freq, offset=offset, traditional=traditional, size=size)
    return rotate_naive(
        x, inv_freq, offset=offset, positions=positions, traditional=traditional, size=size
    )


def rotate_naive(
    x: BHTK,
    inv_freq: mx.array,
    *,
    offset: mx.array | int = 0,
    positions: mx.array | None = None,
    traditional: bool = False,
    size: float = 1.0,
) -> BHTK:
    """The definition of `rotate`; on the CPU as fast as `mx.fast.rope`, so used there too."""
    if positions is None:
        positions = mx.array(offset)[..., None] + _places(x.shape[2])
    inv_freq = upcast(inv_freq)
    angle = positions.astype(inv_freq.dtype)[..., None] * inv_freq
    if angle.ndim == 3:
        angle = angle[:, None]
    return rotate_by(x, angle, traditional=traditional, size=size)


@lru_cache(maxsize=16)
def _places(length: int) -> mx.array:
    """`arange(length)`, one array for all layers: `mx.compile` then computes their cosines and
    sines once for each CPU stream, since it merges equal operations on the same inputs alone."""
    return mx.array(np.arange(length, dtype=np.int32))


def rotate_by(x: BHTK, angle: mx.array, *, traditional: bool = False, size: float = 1.0) -> BHTK:
    """Rotate pairs of features of x `[B, H, T, K]` by given angles, same shape.

    `angle [..., T, K'/2]`, in radians, has one column for each pair, as the pairs of `rotate`.
    """
    cos, sin = mx.cos(angle), mx.sin(angle)
    if size != 1.0:
        cos, sin = cos * size, sin * size
    width = 2 * angle.shape[-1]
    rotated, rest = upcast(x[..., :width]), x[..., width:]
    if traditional:
        a, b = rotated[..., 0::2], rotated[..., 1::2]
        out = mx.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).flatten(-2)
    else:
        a, b = mx.split(rotated, 2, axis=-1)
        out = mx.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    out = out.astype(x.dtype)
    return out if rest.shape[-1] == 0 else mx.concatenate([out, rest], axis=-1)


def rotate_fused(
    x: BHTK,
    inv_freq: mx.array,
    *,
    offset: mx.array | int = 0,
    traditional: bool = False,
    size: float = 1.0,
) -> BHTK:
    """`rotate` without explicit positions, by MLX's kernel for the GPU."""
    if size != 1.0:
        width = 2 * inv_freq.shape[0]
        x = mx.concatenate([x[..., :width] * size, x[..., width:]], axis=-1)
    return mx.fast.rope(
        x,
        2 * inv_freq.shape[0],
        traditional=traditional,
        base=None,
        scale=1.0,
        offset=offset,
        freqs=1 / inv_freq,
    )
