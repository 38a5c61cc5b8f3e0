"""Resampling of sound by a windowed sinc."""

from math import gcd

import numpy as np

ZEROS = 16
"""Zero crossings of the sinc on each side."""
BLOCK = 1 << 15
"""Samples that are computed at once."""


def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Return samples `[n]` of one rate at another: `[ceil(n * new_rate / rate)]`.

    Frequencies above half of the lower rate are cut off, by a sinc under a Hann window (Smith 2002,
    "Digital Audio Resampling").
    """
    if rate == new_rate or not len(samples):
        return samples
    common = gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    cutoff = min(1.0, up / down)
    reach = int(np.ceil(ZEROS / cutoff))
    offsets = np.arange(-reach + 1, reach + 1)
    # The kernel of each of the `up` places that an output can have between two inputs.
    distance = offsets[None, :] - np.arange(up)[:, None] / up
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / reach, -1, 1))
    kernels = cutoff * np.sinc(cutoff * distance) * window
    padded = np.pad(samples.astype(np.float32), (reach - 1, reach))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach)
    n = -(-len(samples) * up // down)
    out = np.empty(n, np.float32)
    for start in range(0, n, BLOCK):
        places = np.arange(start, min(start + BLOCK, n)) * down
        out[start : start + BLOCK] = np.einsum(
            "nk,nk->n", windows[places // up], kernels[places % up]
        )
    return out
