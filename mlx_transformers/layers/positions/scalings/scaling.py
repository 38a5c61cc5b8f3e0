"""What every scaling of rotary positions offers: how fast each pair of features turns."""

import math
from typing import Any

import mlx.core as mx
import numpy as np
from pydantic import Field

from ....recipe.config import Kind


class Scaling(Kind):
    """How a model of one context reads a longer one: rotary frequencies changed after the fact."""

    def inv_freq(self, theta: float, width: int, length: Any) -> mx.array:
        """Radians per position of each turning pair, `[width / 2]`, float32.

        Args:
            theta: base of the wavelengths.
            width: features that turn, twice the pairs.
            length: one more than the largest position of the pass, an int or an array scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} scales nothing.")

    def size(self) -> float:
        """What turned queries and keys are multiplied by."""
        return 1.0

    @property
    def recompute_beyond(self) -> int | None:
        """The length beyond which all tokens are turned differently, the old ones too."""
        return None


class Stretched(Scaling):
    """Scalings by a factor of a model that was trained on a shorter context."""

    factor: float = Field(ge=1)
    """How many times longer the context is to be."""


class FromTrained(Stretched):
    """Those that also ask how long the context was in training."""

    trained_len: int = Field(ge=1)
    """The context of training, in tokens."""


def plain_inv_freq(theta: float, width: int) -> np.ndarray:
    """`theta^(-2i/width)` for each pair i, in float64; Su et al. 2021, section 3.2.2."""
    return theta ** (-np.arange(0, width, 2) / width)


def single(frequencies: np.ndarray) -> mx.array:
    """Frequencies computed in float64, as the model uses them."""
    return mx.array(frequencies.astype(np.float32))


def log_size(factor: float, slope: float = 1.0) -> float:
    """`0.1 · slope · ln(factor) + 1`, 1 where nothing is stretched (YaRN, equation 22)."""
    return 1.0 if factor <= 1 else 0.1 * slope * math.log(factor) + 1.0
