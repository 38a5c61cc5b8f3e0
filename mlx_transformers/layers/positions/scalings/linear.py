"""Position interpolation."""

from typing import Literal

import mlx.core as mx

from .scaling import Stretched, plain_inv_freq, single


class LinearScaling(Stretched):
    """Position interpolation: every pair rotates `factor` times slower.

    Chen et al. 2023, "Extending Context Window of Large Language Models via Positional
    Interpolation", equation 4: `f(x, p / factor)`.
    """

    kind: Literal["linear"] = "linear"

    def inv_freq(self, theta: float, width: int, length: mx.array | int) -> mx.array:
        return single(plain_inv_freq(theta, width) / self.factor)
