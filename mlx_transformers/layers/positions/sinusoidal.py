"""Sinusoidal positions."""

from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...recipe.config import Kind
from .position import Position


class Sinusoidal(Kind):
    """Fixed waves of geometric wavelengths, added to the embeddings.

    `PE[p, 2i] = sin(p / theta^(2i/D))`, `PE[p, 2i+1] = cos(p / theta^(2i/D))`;
    Vaswani et al. 2017, section 3.5.
    """

    kind: Literal["sinusoidal"] = "sinusoidal"
    theta: float = Field(10000.0, gt=1)
    """Base of the wavelengths, which run from 2π to theta · 2π."""

    def build(self, dim: int, max_seq_len: int) -> "SinusoidalPosition":
        return SinusoidalPosition(self.theta)


class SinusoidalPosition(Position):
    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = theta

    def embed(self, x: mx.array, ctx: Context) -> mx.array:
        dim = x.shape[-1]
        freq = mx.array(self.theta ** (-np.arange(0, dim, 2) / dim), dtype=mx.float32)
        angle = self.positions(x.shape[1], ctx).astype(mx.float32)[..., None] * freq
        waves = mx.stack([mx.sin(angle), mx.cos(angle)], axis=-1)
        return x + waves.reshape(*angle.shape[:-1], -1)[..., :dim].astype(x.dtype)
