"""RetNet's frequencies."""

from typing import Literal

import mlx.core as mx
import numpy as np

from ...kinds import ScalingKind
from .scaling import single


class InclusiveScaling(ScalingKind):
    """Frequencies from 1 to 1/theta with both ends included: `theta^(-i / (K/2 - 1))` for pair i.

    The published code of RetNet (Sun et al. 2023); RoPE's slowest pair is faster than 1/theta.
    """

    kind: Literal["inclusive"] = "inclusive"

    def inv_freq(self, theta: float, width: int, length: mx.array | int) -> mx.array:
        return single(theta ** -np.linspace(0.0, 1.0, width // 2))
