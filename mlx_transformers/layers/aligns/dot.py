"""Dot-product alignment."""

from typing import Literal

import mlx.core as mx

from .align import Align, AlignModule


class Dot(Align):
    """`score(h, m) = hᵀ m`; Luong et al. 2015, equation 8."""

    kind: Literal["dot"] = "dot"

    def build(self, dim: int) -> "DotAlign":
        return DotAlign()


class DotAlign(AlignModule):
    def score(self, asked: mx.array, keys: mx.array) -> mx.array:
        return asked @ keys.swapaxes(-1, -2)
