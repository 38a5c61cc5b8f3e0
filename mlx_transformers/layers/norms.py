"""Normalisations: what the slot `norm` can hold. `build(dim)` gives a module `x -> x`."""

from typing import Literal

import mlx.nn as nn
from pydantic import Field

from ..core.footprint import WIDE, Pass
from ..recipe.config import Kind


class LayerNorm(Kind):
    """Layer normalisation: `(x - mean) / sqrt(var + eps) * weight + bias`.

    Ba, Kiros & Hinton 2016, "Layer Normalization", equation 3.
    """

    kind: Literal["layer_norm"] = "layer_norm"
    eps: float = Field(1e-5, gt=0)
    """Added to the variance before the root."""
    bias: bool = True
    """Whether a bias is learned beside the weight."""

    def build(self, dim: int) -> nn.Module:
        return nn.LayerNorm(dim, eps=self.eps, bias=self.bias)

    def kept(self, dim: int, at: Pass) -> float:
        return kept_normalised(dim, at)


class RmsNorm(Kind):
    """Root-mean-square normalisation: `x / sqrt(mean(x²) + eps) * weight`.

    Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """

    kind: Literal["rms_norm"] = "rms_norm"
    eps: float = Field(1e-5, gt=0)
    """Added to the mean square before the root."""

    def build(self, dim: int) -> nn.Module:
        return nn.RMSNorm(dim, eps=self.eps)

    def kept(self, dim: int, at: Pass) -> float:
        return kept_normalised(dim, at)


class NoNorm(Kind):
    """The identity: `x`. What a post-norm stack has after its last block."""

    kind: Literal["none"] = "none"

    def build(self, dim: int) -> nn.Module:
        return nn.Identity()

    def kept(self, dim: int, at: Pass) -> float:
        return 0.0


def kept_normalised(dim: int, at: Pass) -> float:
    """The input, and on the CPU also what was normalised; the GPU's kernel computes it again."""
    return float(dim * (at.width + WIDE if at.cpu else at.width))
