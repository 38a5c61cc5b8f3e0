"""Fields and frequencies shared by the scalings of rotary positions."""

import math
from functools import lru_cache

import mlx.core as mx
import numpy as np
from pydantic import Field

from ...kinds import ScalingKind


class Stretched(ScalingKind):
    """A scaling by a factor over the context of training."""

    factor: float = Field(ge=1)
    """Length of the context relative to that of training."""


class FromTrained(Stretched):
    """A scaling that also depends on the length of the context of training."""

    trained_len: int = Field(ge=1)
    """Length of the context of training, in tokens."""


def plain_inv_freq(theta: float, width: int) -> np.ndarray:
    """`theta^(-2i/width)` for each pair i, in float64; Su et al. 2021, section 3.2.2."""
    return theta ** (-np.arange(0, width, 2) / width)


def single(frequencies: np.ndarray) -> mx.array:
    """Frequencies computed in float64 as a float32 array, the same one for equal frequencies."""
    return _array(frequencies.astype(np.float32).tobytes())


@lru_cache(maxsize=64)
def _array(data: bytes) -> mx.array:
    # One array for all layers lets `mx.compile` merge what they compute of it.
    return mx.array(np.frombuffer(data, np.float32))


def log_size(factor: float, slope: float = 1.0) -> float:
    """`0.1 · slope · ln(factor) + 1`, 1 if factor is at most 1 (YaRN, equation 22)."""
    return 1.0 if factor <= 1 else 0.1 * slope * math.log(factor) + 1.0
