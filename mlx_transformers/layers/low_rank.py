"""Linear maps of low rank."""

from collections.abc import Callable
from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn

from ..core.shapes import BTD
from .parameter import Role

Activation = Callable[[mx.array], mx.array]


class LowRank(nn.Module):
    """`offset + W_up act(W_down x)`: `x [B, T, D] -> [B, T, D]`."""

    roles: ClassVar[dict[str, Role]] = {"offset": "own"}

    def __init__(
        self, dim: int, rank: int, activation: Activation | None, offset: mx.array | None
    ) -> None:
        super().__init__()
        self.activation = activation
        self.down = nn.Linear(dim, rank, bias=False)
        self.up = nn.Linear(rank, dim, bias=False)
        if offset is not None:
            self.offset = offset

    def __call__(self, x: BTD) -> BTD:
        low = self.down(x)
        y: mx.array = self.up(low if self.activation is None else self.activation(low))
        return y + self.offset.astype(y.dtype) if "offset" in self else y
