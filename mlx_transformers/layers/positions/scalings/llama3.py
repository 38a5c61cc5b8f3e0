"""The scaling of LLaMA 3.1."""

import math
from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from .scaling import FromTrained, plain_inv_freq, single


class Llama3Scaling(FromTrained):
    """LLaMA 3.1: slow pairs are interpolated, fast ones unchanged, those between blended.

    With `turns = trained · inv_freq / 2π` in the context of training, the unchanged share is
    `clip((turns - low) / (high - low), 0, 1)`; Meta 2024, their code, `apply_scaling`.
    """

    kind: Literal["llama3"] = "llama3"
    low: float = Field(1.0, gt=0)
    """Pairs with fewer turns than this are interpolated."""
    high: float = Field(4.0, gt=0)
    """Pairs with more turns than this are unchanged."""

    def inv_freq(self, theta: float, width: int, length: mx.array | int) -> mx.array:
        plain = plain_inv_freq(theta, width)
        turns = self.trained_len * plain / (2 * math.pi)
        unchanged = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return single((1 - unchanged) * plain / self.factor + unchanged * plain)
