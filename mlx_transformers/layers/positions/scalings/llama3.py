"""The scaling of LLaMA 3.1."""

import math
from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from .scaling import FromTrained, plain_inv_freq, single


class Llama3Scaling(FromTrained):
    """LLaMA 3.1: slow pairs are interpolated, fast ones kept, and those between blended.

    With `turns = trained · inv_freq / 2π` turns in the context of training, the share that is kept
    is `clip((turns - low) / (high - low), 0, 1)`; Meta 2024, their code, `apply_scaling`.
    """

    kind: Literal["llama3"] = "llama3"
    low: float = Field(1.0, gt=0)
    """Pairs with fewer turns than this are interpolated."""
    high: float = Field(4.0, gt=0)
    """Pairs with more turns than this are kept."""

    def inv_freq(self, theta: float, width: int, length: mx.array | int) -> mx.array:
        plain = plain_inv_freq(theta, width)
        turns = self.trained_len * plain / (2 * math.pi)
        kept = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return single((1 - kept) * plain / self.factor + kept * plain)
