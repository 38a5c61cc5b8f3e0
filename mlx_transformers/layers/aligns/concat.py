"""Concat attention."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn

from ...core.footprint import ActivationShape
from ..linear import matrix
from .align import Align, AlignModule


class Concat(Align):
    """Concat attention: `score(h, m) = vᵀ tanh(W [h; m])`; Luong et al. 2015, equation 8.

    The same function as `additive` with D hidden units, with W as one matrix.
    """

    kind: Literal["concat"] = "concat"

    def build(self, dim: int) -> "ConcatAlign":
        return ConcatAlign(dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """A hidden layer for every pair of positions."""
        return super().saved_bytes(dim, at) + at.length * dim * at.itemsize


class ConcatAlign(AlignModule):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.both = nn.Linear(2 * dim, dim, bias=False)
        self.v = nn.Linear(dim, 1, bias=False)

    @property
    def query(self) -> mx.array:
        return matrix(self.both)[:, : self.dim]

    def make_keys(self, memory: mx.array) -> mx.array:
        return memory @ matrix(self.both)[:, self.dim :].T

    def score(self, query: mx.array, keys: mx.array) -> mx.array:
        return self.v(mx.tanh(query[:, :, None] + keys[:, None]))[..., 0]
