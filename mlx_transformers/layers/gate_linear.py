"""Linear layers of gates, whose biases start where the gate should stand."""

from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn

from .parameter import Role


class GateLinear(nn.Linear):
    """`W x + b` with the start of b given: initialisation leaves it, and weight decay too."""

    roles: ClassVar[dict[str, Role]] = {"bias": "own"}

    def __init__(self, dim: int, bias: mx.array) -> None:
        super().__init__(dim, bias.shape[0])
        self.bias = bias
