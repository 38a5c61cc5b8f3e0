"""Group normalisation of heads: each head on its own, with a weight for every feature."""

from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn

from ..core.shapes import BHT_, BT_
from ..ops.norms import layer_norm
from .parameter import NORM, Role


class HeadNorm(nn.Module):
    """`x [B, H, T, V] -> [B, T, H * V]`; Wu & He 2018, "Group Normalization", a head per group."""

    roles: ClassVar[dict[str, Role]] = NORM

    def __init__(self, dim: int, eps: float, bias: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = mx.ones((dim,))
        if bias:
            self.bias = mx.zeros((dim,))

    def __call__(self, x: BHT_) -> BT_:
        y = layer_norm(x.transpose(0, 2, 1, 3), None, None, self.eps).flatten(-2) * self.weight
        return y + self.bias if "bias" in self else y
