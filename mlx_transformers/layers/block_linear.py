"""Block-diagonal linear layers: each block of features has a matrix of its own."""

from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn

from ..core.shapes import BTD
from .parameter import LINEAR, Role


class BlockLinear(nn.Module):
    """`x [B, T, D] -> [B, T, D]`: n matrices of width D / n on the diagonal, and a bias."""

    roles: ClassVar[dict[str, Role]] = LINEAR

    def __init__(self, dim: int, n_blocks: int) -> None:
        super().__init__()
        width = dim // n_blocks
        bound = width**-0.5
        self.weight = mx.random.uniform(-bound, bound, (n_blocks, width, width))
        self.bias = mx.zeros((dim,))

    def matrix(self) -> mx.array:
        """The blocks, `[n, out, in]`."""
        weight: mx.array = self.weight
        return weight

    def __call__(self, x: BTD) -> BTD:
        n, width, _ = self.weight.shape
        blocks = x.reshape(-1, n, width).swapaxes(0, 1) @ self.weight.swapaxes(1, 2)
        return blocks.swapaxes(0, 1).reshape(x.shape) + self.bias
