"""Sinusoidal positions."""

from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...core.shapes import BTD
from ..kinds import PositionKind
from .position import Position


class Sinusoidal(PositionKind):
    """Sinusoidal positions of geometric wavelengths, added to the embeddings.

    `PE[p, 2i] = sin(p / theta^(2i/D))`, `PE[p, 2i+1] = cos(p / theta^(2i/D))`;
    Vaswani et al. 2017, section 3.5. The paper's code wrote all sines before all cosines
    (`halves`) with a last wavelength of exactly theta · 2π (`last`), as does fairseq.
    """

    kind: Literal["sinusoidal"] = "sinusoidal"
    theta: float = Field(10000.0, gt=1)
    """Base of the wavelengths, which run from 2π to theta · 2π."""
    layout: Literal["interleaved", "halves"] = "interleaved"
    """Sines and cosines alternating, or all sines first (Marian, M2M-100, Pegasus)."""
    spacing: Literal["dim", "last"] = "dim"
    """The exponent: 2i/D, or i/(D/2 - 1), which ends at theta (M2M-100)."""
    offset: int = Field(0, ge=0)
    """The first position (M2M-100: 2)."""
    skips_padding: bool = False
    """Whether positions skip left padding (M2M-100)."""

    def build(self, dim: int, max_seq_len: int) -> "SinusoidalPosition":
        return SinusoidalPosition(self)


class SinusoidalPosition(Position):
    def __init__(self, config: Sinusoidal) -> None:
        super().__init__()
        self.config = config

    def embed(self, x: BTD, ctx: Context) -> BTD:
        dim = x.shape[-1]
        half = (dim + 1) // 2
        last = self.config.spacing == "last"
        exponent = np.arange(half) / max(half - 1, 1) if last else np.arange(0, dim, 2) / dim
        freq = mx.array(self.config.theta**-exponent, dtype=mx.float32)
        placing = self.counted if self.config.skips_padding else self.positions
        place = placing(x.shape[1], ctx) + self.config.offset
        angle = place.astype(mx.float32)[..., None] * freq
        sin, cos = mx.sin(angle), mx.cos(angle)
        if self.config.layout == "interleaved":
            waves = mx.stack([sin, cos], axis=-1).reshape(*angle.shape[:-1], -1)
        else:
            waves = mx.concatenate([sin, cos], axis=-1)
        return x + waves[..., :dim].astype(x.dtype)
