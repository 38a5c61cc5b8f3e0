"""Softmax attention: multi-head, grouped-query, multi-query, with or without a window."""

import math
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import WIDE, Pass
from ...ops.attention import attention, attention_kept
from ...ops.masks import Mask
from ...recipe.config import Kind
from ...recipe.slot import Slot
from ..linear import ResidualLinear

State = dict[str, mx.array]


class Attention(Kind):
    """Scaled dot-product attention: `softmax(q kᵀ · scale) v`, head by head.

    Multi-head: Vaswani et al. 2017, section 3.2. Multi-query: Shazeer 2019. Grouped-query:
    Ainslie et al. 2023. Sliding window: Beltagy et al. 2020, Mistral (Jiang et al. 2023).
    Query-key norm: Henry et al. 2020. Soft cap: Gemma 2, section 2.
    """

    kind: Literal["attention"] = "attention"
    n_heads: int = Field(ge=1)
    """Query heads H."""
    n_kv_heads: int | None = Field(None, ge=1)
    """Key/value heads G, a divisor of n_heads; none means as many as queries, 1 multi-query."""
    head_dim: int | None = Field(None, ge=1)
    """Width K of a head; none means dim / n_heads."""
    window: int | None = Field(None, ge=1)
    """Each token sees itself and the window - 1 tokens before it; none means all of the past."""
    qk_norm: Annotated[Kind, Slot("norm")] | None = None
    """Normalisation of queries and keys, per head, before they are rotated."""
    softcap: float | None = Field(None, gt=0)
    """Bound c of the scores: `c · tanh(score / c)`."""
    scale: float | None = Field(None, gt=0)
    """Multiplies the scores; none means 1/√K."""
    bias: bool = False
    """Whether q, k and v have a bias."""
    out_bias: bool = False
    """Whether the output projection has a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the attention weights."""

    def build(self, dim: int) -> "AttentionMixer":
        if self.head_dim is None and dim % self.n_heads:
            raise RecipeError(
                f"mixer.n_heads = {self.n_heads} does not divide model.dim = {dim}, so no head "
                "width follows. Choose a divisor, or set mixer.head_dim."
            )
        if self.n_heads % (self.n_kv_heads or self.n_heads):
            raise RecipeError(
                f"mixer.n_kv_heads = {self.n_kv_heads} does not divide mixer.n_heads = "
                f"{self.n_heads}: every key/value head serves the same number of query heads."
            )
        return AttentionMixer(self, dim)

    def kept(self, dim: int, at: Pass) -> float:
        """Input, q, k, v, scores, output, and the output once more with its heads merged."""
        head_dim, groups = self.head_dim or dim // self.n_heads, self.n_kv_heads or self.n_heads
        queries, keys = self.n_heads * head_dim, groups * head_dim
        inside = WIDE if at.cpu else at.width
        scores = attention_kept(
            at,
            self.n_heads,
            mask=Mask(window=self.window),
            softcap=self.softcap is not None,
            dropout=self.dropout > 0,
        )
        norms = 0.0
        if self.qk_norm is not None:
            norms = (self.n_heads + groups) * self.qk_norm.kept(head_dim, at)  # type: ignore[attr-defined]
        around = (dim + queries) * at.width
        return around + 2 * (queries + keys) * inside + scores + norms


class AttentionMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`, and `step` with a cache of keys and values.

    The cache has one slot per position, or is a ring of `window` slots; `pos [S]` says which
    position each slot holds, -1 for none.
    """

    def __init__(self, config: Attention, dim: int) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.n_kv_heads = config.n_kv_heads or config.n_heads
        self.head_dim = config.head_dim or dim // config.n_heads
        self.window = config.window
        self.scale = config.scale or 1.0 / math.sqrt(self.head_dim)
        self.softcap = config.softcap
        self.dropout = config.dropout
        self.q = nn.Linear(dim, self.n_heads * self.head_dim, bias=config.bias)
        self.k = nn.Linear(dim, self.n_kv_heads * self.head_dim, bias=config.bias)
        self.v = nn.Linear(dim, self.n_kv_heads * self.head_dim, bias=config.bias)
        self.o = ResidualLinear(self.n_heads * self.head_dim, dim, bias=config.out_bias)
        if config.qk_norm is not None:
            self.q_norm = config.qk_norm.build(self.head_dim)
            self.k_norm = config.qk_norm.build(self.head_dim)

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        q, k, v = self._project(x, ctx)
        mask = Mask(causal=ctx.causal, window=self.window, segments=ctx.segments)
        key = ctx.next_key() if self.dropout and ctx.key is not None else None
        y = self._attend(q, k, v, mask, key)
        return self._merge(y)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """An empty cache for `batch` rows that will never hold more than `length` tokens."""
        slots = min(length, self.window or length)
        shape = (batch, self.n_kv_heads, slots, self.head_dim)
        empty = mx.full((slots,), -1, dtype=mx.int32)
        return {"k": mx.zeros(shape, dtype), "v": mx.zeros(shape, dtype), "pos": empty}

    def step(self, x: mx.array, state: State, ctx: Context) -> tuple[mx.array, State]:
        """Continue by the T tokens of `x`; they stand at positions `ctx.offset + arange(T)`."""
        q, k, v = self._project(x, ctx)
        pos = (mx.arange(x.shape[1]) + ctx.offset).astype(mx.int32)
        after = _write(state, k, v, pos)
        seen = after
        if self.window is not None and x.shape[1] > 1:
            # The ring may have dropped keys that the first queries of this chunk still see.
            seen = {
                "k": mx.concatenate([state["k"], k.astype(state["k"].dtype)], axis=2),
                "v": mx.concatenate([state["v"], v.astype(state["v"].dtype)], axis=2),
                "pos": mx.concatenate([state["pos"], pos]),
            }
        mask = Mask(allowed=_visible(pos, seen["pos"], self.window))
        y = self._attend(q, seen["k"].astype(q.dtype), seen["v"].astype(q.dtype), mask, None)
        return self._merge(y), after

    def flops(self, length: int) -> float:
        """Forward operations per token of a causal row, beside the weights: scores and values.

        `4 · H · K · keys`, where keys is the mean number that a token sees.
        """
        w = min(self.window or length, length)
        keys = w - w * (w - 1) / (2 * length)
        return 4.0 * self.n_heads * self.head_dim * keys

    def _project(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array, mx.array]:
        B, T, _ = x.shape

        def heads(y: mx.array, n: int) -> mx.array:
            return y.reshape(B, T, n, self.head_dim).transpose(0, 2, 1, 3)

        q, k = heads(self.q(x), self.n_heads), heads(self.k(x), self.n_kv_heads)
        if "q_norm" in self:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = ctx.position.rotate(q, k, ctx)
        return q, k, heads(self.v(x), self.n_kv_heads)

    def _attend(
        self, q: mx.array, k: mx.array, v: mx.array, mask: Mask, key: mx.array | None
    ) -> mx.array:
        rate = self.dropout if key is not None else 0.0
        return attention(
            q, k, v, scale=self.scale, mask=mask, softcap=self.softcap, dropout=rate, key=key
        )

    def _merge(self, y: mx.array) -> mx.array:
        B, _, T, _ = y.shape
        return self.o(y.transpose(0, 2, 1, 3).reshape(B, T, -1))


def _write(state: State, k: mx.array, v: mx.array, pos: mx.array) -> State:
    """The cache with the last of the new keys and values in the slots `position mod S`."""
    slots = state["pos"].shape[0]
    kept = min(slots, pos.shape[0])
    where = pos[-kept:] % slots
    after = dict(state)
    for name, new in (("k", k), ("v", v)):
        rows = new[:, :, -kept:].astype(state[name].dtype)
        if kept == 1:
            after[name] = mx.slice_update(state[name], rows, where, axes=(2,))
        else:
            cache = mx.array(state[name])
            cache[:, :, where] = rows
            after[name] = cache
    held = mx.array(state["pos"])
    held[where] = pos[-kept:]
    after["pos"] = held
    return after


def _visible(q_pos: mx.array, k_pos: mx.array, window: int | None) -> mx.array:
    """`[1, 1, T, S]`: which slots hold a key that is not in the future nor out of the window."""
    distance = q_pos[:, None] - k_pos[None, :]
    seen = (k_pos[None, :] >= 0) & (distance >= 0)
    if window is not None:
        seen = seen & (distance < window)
    return seen[None, None]
