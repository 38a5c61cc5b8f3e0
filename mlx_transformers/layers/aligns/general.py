"""Bilinear attention, Luong's "general" score."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn

from .align import Align
from .dot import DotAlign


class General(Align):
    """Bilinear attention: `score(h, m) = hᵀ W m`; Luong et al. 2015, equation 8.

    W m is computed once for all queries.
    """

    kind: Literal["general"] = "general"

    def build(self, dim: int) -> "GeneralAlign":
        return GeneralAlign(dim)


class GeneralAlign(DotAlign):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.k = nn.Linear(dim, dim, bias=False)

    def make_keys(self, memory: mx.array) -> mx.array:
        return self.k(memory)
