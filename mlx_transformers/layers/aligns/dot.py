"""Dot-product attention of a recurrent decoder."""

from typing import Literal

import mlx.core as mx

from .align import Align, AlignModule


class Dot(Align):
    """Dot-product attention: `score(h, m) = hᵀ m`; Luong et al. 2015, equation 8."""

    kind: Literal["dot"] = "dot"

    def build(self, dim: int) -> "DotAlign":
        return DotAlign()


class DotAlign(AlignModule):
    def score(self, query: mx.array, keys: mx.array) -> mx.array:
        return query @ keys.swapaxes(-1, -2)
