"""Transformer-XL's relative positions."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.score_bias import DistanceBias
from ...ops.lookup import read_pairs
from ..kinds import PositionKind
from ..parameter import Role
from .position import Position, check_heads, per_token


class TransformerXL(PositionKind):
    """Transformer-XL's relative positions: content and sinusoidal distance, each also with a global
    bias in place of the query.

    `score(t, s) = (q_t · k_s + q_t · W r(t-s) + u · k_s + v · W r(t-s)) / √K` with sinusoids r of
    the distance; Dai et al. 2019, section 3.3: terms a, b, c, d. u and v begin at 0. The paper has
    a W for each layer: `model.block.position`. Its recurrence over segments is not built.
    """

    kind: Literal["transformer_xl"] = "transformer_xl"
    adds_to_scores: ClassVar[bool] = True
    n_heads: int = Field(ge=1)
    """Query heads H of the mixers."""
    head_dim: int | None = Field(None, ge=1)
    """Width K of a head; none means dim / n_heads."""
    theta: float = Field(10000.0, gt=1)
    """Base of the wavelengths, which run from 2π to theta · 2π."""

    def width(self, dim: int) -> int:
        """Width K of a head of queries."""
        return self.head_dim or dim // self.n_heads

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """The sinusoids of all distances, and their projections."""
        return per_token(dim + self.n_heads * self.width(dim), at)

    def flops(self, dim: int, length: int) -> float:
        """Queries with the projection of each distance that they see, `2 · H · K` each, and u with
        the keys. W projects distances, which are the same for all rows, instead of tokens."""
        width = self.n_heads * self.width(dim)
        return width * (length + 1.0) + 2.0 * width - 2.0 * dim * width

    def build(self, dim: int, max_seq_len: int) -> "TransformerXLPosition":
        return TransformerXLPosition(self, dim)


class TransformerXLPosition(Position):
    """`scores + (q + v/√K) · W r(distance) + u/√K · k`, for scaled queries q."""

    roles: ClassVar[dict[str, Role]] = {"u": "vector", "v": "vector"}

    def __init__(self, config: TransformerXL, dim: int) -> None:
        super().__init__()
        self.dim, self.theta, self.n_heads = dim, config.theta, config.n_heads
        self.head_dim = config.width(dim)
        width = config.n_heads * self.head_dim
        self.r = nn.Linear(dim, width, bias=False)
        self.u, self.v = mx.zeros((width,)), mx.zeros((width,))

    def distance_bias(self, q: mx.array, k: mx.array, ctx: Context) -> DistanceBias:
        check_heads(q, self.n_heads, self.head_dim)
        waves = sinusoids(-self.ahead(q.shape[2]), self.dim, self.theta)
        r = self.r(waves.astype(q.dtype)).reshape(-1, self.n_heads, self.head_dim)
        r = r.swapaxes(0, 1)
        by_distance = (r @ self._global(self.v)[..., None]).squeeze(-1)[None]
        return DistanceBias(by_distance, r, self._by_key(q.shape[1], k))

    def bias(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: Context
    ) -> mx.array:
        check_heads(q, self.n_heads, self.head_dim)
        # Distances are below the number of keys, and never negative for a causal query.
        keys = k.shape[2]
        ahead = 0 if ctx.layout.causal and ctx.layout.prefix is None else keys - 1
        rows = mx.clip(q_pos[:, None] - k_pos[None, :] + ahead, 0, keys - 1 + ahead)
        waves = sinusoids(mx.arange(-ahead, keys), self.dim, self.theta)
        r = self.r(waves.astype(q.dtype)).reshape(-1, self.n_heads, self.head_dim)
        by_place = (q + self._global(self.v)[:, None]) @ r.transpose(1, 2, 0)
        return read_pairs(by_place, rows) + self._by_key(q.shape[1], k)

    def _global(self, vector: mx.array) -> mx.array:
        """u or v, `[H, K]`, scaled like the queries."""
        return vector.reshape(self.n_heads, self.head_dim) / math.sqrt(self.head_dim)

    def _by_key(self, n_heads: int, k: mx.array) -> mx.array:
        """`u · k`, `[B, H, 1, S]`, with keys shared by groups of heads."""
        batch, groups, length, width = k.shape
        u = mx.broadcast_to(self._global(self.u), (n_heads, width)).reshape(groups, -1, width)
        return (u @ k.swapaxes(-1, -2)).reshape(batch, n_heads, 1, length)


def sinusoids(distance: mx.array, dim: int, theta: float) -> mx.array:
    """Sines, then cosines of each distance `[N]`, negative ones too: `[N, dim]`, float32."""
    freq = mx.array(theta ** (-np.arange(0, dim, 2) / dim), dtype=mx.float32)
    angle = distance.astype(mx.float32)[:, None] * freq
    return mx.concatenate([mx.sin(angle), mx.cos(angle)], axis=-1)[:, :dim]
