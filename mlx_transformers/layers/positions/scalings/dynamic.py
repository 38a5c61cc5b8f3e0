"""Dynamic NTK-aware scaling."""

import math
from typing import Literal

import mlx.core as mx

from .scaling import FromTrained


class DynamicScaling(FromTrained):
    """Dynamic NTK-aware scaling: the base grows with the length beyond that of training.

    `theta · (factor · length / trained - (factor - 1))^(W / (W - 2))`, W the rotated features;
    Peng et al. 2023 (YaRN), section 3.3 and definition 1, after bloc97 and emozilla. In decoding,
    cached keys keep their rotation, as in the published code.
    """

    kind: Literal["dynamic"] = "dynamic"

    def inv_freq(self, theta: float, width: int, length: mx.array | int) -> mx.array:
        longest = mx.maximum(mx.array(length), self.trained_len).astype(mx.float32)
        growth = self.factor * longest / self.trained_len - (self.factor - 1)
        log_base = math.log(theta) + mx.log(growth) * (width / (width - 2))
        return mx.exp(-log_base * (mx.arange(0, width, 2).astype(mx.float32) / width))
