"""Slot `norm`: normalisations."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.footprint import ActivationShape
from ..core.shapes import BHTK, xD
from ..ops.norms import layer_norm, rms_norm
from .kinds import NormKind
from .parameter import NORM, Role


class LayerNorm(NormKind):
    """Layer normalisation: `(x - mean) / sqrt(var + eps) * weight + bias`.

    Ba, Kiros & Hinton 2016, "Layer Normalization", equation 3.
    """

    kind: Literal["layer_norm"] = "layer_norm"
    eps: float = Field(1e-5, gt=0)
    """Added to the variance before the root."""
    bias: bool = True
    """Whether a bias is learned."""
    weight: bool = True
    """Whether a weight is learned; without it there is no bias either (OLMo)."""
    unit_offset: bool = False
    """Whether 1 is added to the learned weight, which then decays towards 1 (Nemotron)."""

    def build(self, dim: int) -> nn.Module:
        return LayerNormModule(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        return float(dim * at.itemsize)


class RmsNorm(NormKind):
    """Root-mean-square normalisation: `x / sqrt(mean(x²) + eps) * weight`.

    Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """

    kind: Literal["rms_norm"] = "rms_norm"
    eps: float = Field(1e-5, gt=0)
    """Added to the mean square before the root."""
    weight: bool = True
    """Whether a weight is learned."""
    unit_offset: bool = False
    """Whether 1 is added to the learned weight, which then decays towards 1 (Gemma)."""

    def build(self, dim: int) -> nn.Module:
        return RmsNormModule(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        return float(dim * at.itemsize)


class NoNorm(NormKind):
    """No normalisation: `x`. A post-norm stack has none after its last block."""

    kind: Literal["none"] = "none"

    def build(self, dim: int) -> nn.Module:
        return nn.Identity()

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        return 0.0


class ScaledNorm(nn.Module):
    """A norm with an optional weight, learned directly or as its distance from 1."""

    def __init__(self, config: LayerNorm | RmsNorm, dim: int) -> None:
        super().__init__()
        self.eps, self.unit_offset = config.eps, config.unit_offset
        if config.weight:
            self.weight = mx.zeros((dim,)) if config.unit_offset else mx.ones((dim,))

    def scale(self) -> mx.array | None:
        """The factor of the normalised input, `[D]`; None: no weight."""
        if "weight" not in self:
            return None
        return self.weight + 1 if self.unit_offset else self.weight


class LayerNormModule(ScaledNorm):
    """`x [..., D] -> [..., D]`."""

    roles: ClassVar[dict[str, Role]] = NORM

    def __init__(self, config: LayerNorm, dim: int) -> None:
        super().__init__(config, dim)
        if config.bias and config.weight:
            self.bias = mx.zeros((dim,))

    def __call__(self, x: xD) -> xD:
        return layer_norm(x, self.scale(), self.get("bias"), self.eps)


class RmsNormModule(ScaledNorm):
    """`x [..., D] -> [..., D]`."""

    roles: ClassVar[dict[str, Role]] = NORM

    def __call__(self, x: xD) -> xD:
        return rms_norm(x, self.scale(), self.eps)


class PerHeadNorm(nn.Module):
    """A norm of its own for every head: `x [B, H, T, K] -> [B, H, T, K]`."""

    def __init__(self, norm: NormKind, n_heads: int, width: int) -> None:
        super().__init__()
        self.heads = [norm.build(width) for _ in range(n_heads)]

    def __call__(self, x: BHTK) -> BHTK:
        return mx.stack([norm(x[:, h]) for h, norm in enumerate(self.heads)], axis=1)
