"""Slot `norm`: LayerNorm, RMSNorm and other normalisations."""

import math
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


class ScaleNorm(NormKind):
    """Scale normalisation: `g · x / ‖x‖` with one learned number g.

    Nguyen & Salazar 2019, "Transformers without Tears", equation 4; g starts at `sqrt(D)`, where it
    equals RMS norm without a weight.
    """

    kind: Literal["scale_norm"] = "scale_norm"
    eps: float = Field(1e-5, gt=0)
    """Added to the mean square before the root."""

    def build(self, dim: int) -> nn.Module:
        return ScaleNormModule(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        return float(dim * at.itemsize)


class DyT(NormKind):
    """Dynamic tanh, in place of a norm: `tanh(α x) * weight + bias`.

    Zhu et al. 2025, "Transformers without Normalization", equation 1. It needs no statistics of x.
    """

    kind: Literal["dyt"] = "dyt"
    alpha: float = Field(0.5, gt=0)
    """The start of the learned number α."""

    def build(self, dim: int) -> nn.Module:
        return DyTModule(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input and tanh."""
        return 2.0 * dim * at.itemsize


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


class ScaleNormModule(nn.Module):
    """`x [..., D] -> [..., D]`."""

    roles: ClassVar[dict[str, Role]] = {"g": "vector"}

    def __init__(self, config: ScaleNorm, dim: int) -> None:
        super().__init__()
        self.eps = config.eps
        self.g = mx.full((1,), math.sqrt(dim))

    def __call__(self, x: xD) -> xD:
        dim = x.shape[-1]
        scale = mx.broadcast_to(self.g * dim**-0.5, (dim,))
        return rms_norm(x, scale, self.eps)


class DyTModule(nn.Module):
    """`x [..., D] -> [..., D]`."""

    roles: ClassVar[dict[str, Role]] = NORM | {"alpha": "vector"}

    def __init__(self, config: DyT, dim: int) -> None:
        super().__init__()
        self.alpha = mx.full((1,), config.alpha)
        self.weight, self.bias = mx.ones((dim,)), mx.zeros((dim,))

    def __call__(self, x: xD) -> xD:
        return mx.tanh(self.alpha * x) * self.weight + self.bias


class PerHeadNorm(nn.Module):
    """A norm of its own for every head: `x [B, H, T, K] -> [B, H, T, K]`."""

    def __init__(self, norm: NormKind, n_heads: int, width: int) -> None:
        super().__init__()
        self.heads = [norm.build(width) for _ in range(n_heads)]

    def __call__(self, x: BHTK) -> BHTK:
        return mx.stack([norm(x[:, h]) for h, norm in enumerate(self.heads)], axis=1)
