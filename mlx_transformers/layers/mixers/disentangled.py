"""Disentangled attention (DeBERTa): content and relative positions with their own projections."""

import math
from dataclasses import replace
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import ActivationShape
from ...core.score_bias import DistanceBias
from ...ops.lookup import read_pairs
from .attention import Attention, AttentionMixer


class Disentangled(Attention):
    """Disentangled attention: scores between content and content, and content and position.

    `score(t, s) = scale · (q_t · k_s + q_t · P_k r(t-s) + k_s · P_q r(t-s))`, where r is a row of
    the table of the position kind; He et al. 2020 (DeBERTa), equation 4: content to content,
    content to position (`c2p`), position to content (`p2c`).
    """

    kind: Literal["disentangled"] = "disentangled"  # type: ignore[assignment]  # a kind of its own
    reads: tuple[Literal["c2p", "p2c"], ...] = ("c2p", "p2c")
    """The terms with positions; without any, no table is needed."""
    scale: float | None = Field(None, gt=0)
    """Factor of the scores; none means 1/√(K · number of terms)."""
    shared: bool = False
    """Whether P_k and P_q are the projections of keys and queries (DeBERTa v3: share_att_key)."""
    pos_k_bias: bool = True
    """Whether P_k has a bias of its own (DeBERTa v1: no); P_q has."""
    k_bias: bool = True
    """Whether keys have a bias too if `bias` gives q and v one (DeBERTa v1: no)."""
    table_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the table of relative positions."""

    @model_validator(mode="after")
    def _maps_exist(self) -> "Disentangled":
        if self.shared and not self.reads:
            raise ValueError("shared has no effect where reads is empty: no position is read.")
        if not self.pos_k_bias and (self.shared or "c2p" not in self.reads):
            raise ValueError("pos_k_bias has no effect without a map P_k of its own.")
        if not self.k_bias and not self.bias:
            raise ValueError("k_bias has no effect without bias: no projection has one.")
        return self

    def dense_bias(self) -> bool:
        return bool(self.reads)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        return super().saved_bytes(dim, replace(at, biased=False))

    def flops(self, dim: int, length: int) -> float:
        """Products of attention; maps of their own project the table's rows instead of tokens."""
        maps = 0 if self.shared else len(self.reads)
        return super().flops(dim, length) - 2.0 * maps * dim * self.n_heads * self.width_of_head(
            dim
        )

    def build(self, dim: int) -> "DisentangledMixer":
        return DisentangledMixer(self, dim)


class DisentangledMixer(AttentionMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`, with a position kind that has a table of distances."""

    def __init__(self, config: Disentangled, dim: int) -> None:
        super().__init__(config, dim)
        self.reads, self.table_dropout = config.reads, config.table_dropout
        self.scale = config.scale or 1.0 / math.sqrt(self.head_dim * (1 + len(self.reads)))
        if not config.k_bias:
            self.k = nn.Linear(dim, self.n_kv_heads * self.head_dim, bias=False)
        width = self.n_heads * self.head_dim
        if not config.shared and "c2p" in self.reads:
            self.pos_k = nn.Linear(dim, width, bias=config.pos_k_bias)
        if not config.shared and "p2c" in self.reads:
            self.pos_q = nn.Linear(dim, width)

    def _row_bias(self, q: mx.array, k: mx.array, ctx: Context) -> mx.array | DistanceBias | None:
        places = mx.arange(q.shape[2])
        return self._bias(q, k, places, places, ctx)

    def _bias(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: Context
    ) -> mx.array | None:
        if not self.reads:
            return None
        relative = ctx.position.relative(q_pos, k_pos)
        if relative is None:
            raise RecipeError(
                "mixer.kind = 'disentangled' reads relative positions, which this position kind "
                "doesn't have. Set position.kind = 'disentangled', or mixer.reads = []."
            )
        table, rows = relative
        table = ctx.dropout(table, self.table_dropout)[None]
        bias: mx.array | None = None
        if "c2p" in self.reads:
            places = self._every_head(self.pos_k(table) if "pos_k" in self else self.k(table))
            bias = read_pairs((q * self.scale) @ places.swapaxes(-1, -2), rows)
        if "p2c" in self.reads:
            places = self._every_head(self.pos_q(table) if "pos_q" in self else self.q(table))
            keys = k if k.shape[1] == self.n_heads else self._repeated(k)
            read = read_pairs((keys * self.scale) @ places.swapaxes(-1, -2), rows.T)
            bias = read.swapaxes(-1, -2) if bias is None else bias + read.swapaxes(-1, -2)
        return bias

    def _every_head(self, y: mx.array) -> mx.array:
        """A projection of the table, `[1, 2R, G * K]`, for every query head: `[1, H, 2R, K]`."""
        heads = y.reshape(1, y.shape[1], -1, self.head_dim).transpose(0, 2, 1, 3)
        return heads if heads.shape[1] == self.n_heads else self._repeated(heads)

    def _repeated(self, x: mx.array) -> mx.array:
        return mx.repeat(x, self.n_heads // self.n_kv_heads, axis=1)
