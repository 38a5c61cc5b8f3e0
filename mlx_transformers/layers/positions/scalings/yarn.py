"""YaRN."""

import math
from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from .scaling import FromTrained, log_size, plain_inv_freq, single


class YarnScaling(FromTrained):
    """YaRN: NTK-by-parts interpolation, and sharper attention.

    Pairs that rotate more than `beta_fast` times in the context of training are unchanged, those
    below `beta_slow` times interpolated, those between blended linearly in their index
    (Peng et al. 2023, section 3.2); queries and keys grow by `0.1 ln(factor) + 1` (equation 22).
    """

    kind: Literal["yarn"] = "yarn"
    beta_fast: float = Field(32.0, gt=0)
    """Turns in the context of training above which a pair is unchanged."""
    beta_slow: float = Field(1.0, gt=0)
    """Turns in the context of training below which a pair is interpolated."""
    truncate: bool = True
    """Whether the ends of the blend are rounded outwards to whole pairs (gpt-oss: not)."""
    magnitude: float | None = Field(None, gt=0)
    """Factor of rotated queries and keys; none means 0.1 ln(factor) + 1."""

    def inv_freq(self, theta: float, width: int, length: mx.array | int) -> mx.array:
        plain = plain_inv_freq(theta, width)
        low, high = (self._pair(turns, theta, width) for turns in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        span = high - low or 0.001  # no division by zero where the blend has no width
        blend = np.clip((np.arange(width // 2) - low) / span, 0, 1)
        return single(plain / self.factor * blend + plain * (1 - blend))

    def size(self) -> float:
        return log_size(self.factor) if self.magnitude is None else self.magnitude

    def _pair(self, turns: float, theta: float, width: int) -> float:
        """The fractional index of the pair with this many turns in the context of training."""
        return width * math.log(self.trained_len / (turns * 2 * math.pi)) / (2 * math.log(theta))
