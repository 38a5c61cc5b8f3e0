"""Additive attention."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.footprint import ActivationShape
from ..linear import matrix
from .align import Align, AlignModule


class Additive(Align):
    """Additive attention: `score(h, m) = vᵀ tanh(W h + U m)`, a network with one hidden layer.

    Bahdanau et al. 2015, appendix A.1.2; U m is computed once for all queries.
    """

    kind: Literal["additive"] = "additive"
    hidden_dim: int | None = Field(None, ge=1)
    """Units of the hidden layer; none means dim."""

    def build(self, dim: int) -> "AdditiveAlign":
        return AdditiveAlign(dim, self.hidden_dim or dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """A hidden layer for every pair of positions."""
        return super().saved_bytes(dim, at) + at.length * (self.hidden_dim or dim) * at.itemsize

    def flops(self, dim: int, length: int) -> float:
        """A product of the hidden layer with v for every pair, and the weighted mean."""
        return 2.0 * ((self.hidden_dim or dim) + dim) * length


class AdditiveAlign(AlignModule):
    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.q = nn.Linear(dim, hidden_dim, bias=False)
        self.k = nn.Linear(dim, hidden_dim, bias=False)
        self.v = nn.Linear(hidden_dim, 1, bias=False)

    @property
    def query(self) -> mx.array:
        return matrix(self.q)

    def make_keys(self, memory: mx.array) -> mx.array:
        return self.k(memory)

    def score(self, query: mx.array, keys: mx.array) -> mx.array:
        return self.v(mx.tanh(query[:, :, None] + keys[:, None]))[..., 0]
