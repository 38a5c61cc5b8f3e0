"""StreamingLLM: sliding-window attention that keeps the first tokens as attention sinks."""

from dataclasses import replace
from functools import partial
from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...ops.key_patterns import first_tokens, windowed
from ...ops.key_sets import KeySet, Rule, Tokens, union
from ..kinds import ScoreBias, State
from .kv_cache import empty_cache
from .sparse_heads import Arrays, SparseHeads, SparseHeadsMixer


class StreamingAttention(SparseHeads):
    """Sliding-window attention that also keeps the first tokens, at positions within the cache.

    The softmax needs somewhere to put its weight, and models learn to put it on the first tokens;
    a window that loses them breaks down. Xiao et al. 2023 (StreamingLLM), section 3.2: the first k
    tokens stay in the cache, and every position is the place in the cache, so that no distance is
    longer than the cache. Training computes the same function in blocks. In packed rows the first
    tokens are those of each document.

    The published code attends before it evicts: its `start_size` s and `recent_size` r are
    `first = s` and `window = r + 1`.
    """

    kind: Literal["streaming_attention"] = "streaming_attention"
    first: int = Field(4, ge=1)
    """Tokens k of a document's beginning that every token sees."""
    window: int = Field(ge=1)
    """Sliding window: each token sees itself and the window - 1 tokens before it."""

    @property
    def score_bias(self) -> ScoreBias:
        """Its pattern has no place for a bias."""
        return "refuses"

    def build(self, dim: int) -> "StreamingMixer":
        return StreamingMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """As all sparse patterns, and queries rotated twice."""
        return super().saved_bytes(dim, at) + self.n_heads * self.width_of_head(dim) * at.itemsize

    def keys_seen(self, t: np.ndarray) -> np.ndarray:
        counts: np.ndarray = np.minimum(t + 1, self.first + self.window)
        return counts


class StreamingMixer(SparseHeadsMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; its decode state is a cache of `first + window` tokens."""

    def __init__(self, config: StreamingAttention, dim: int) -> None:
        super().__init__(config, dim)
        self.first, self.window = config.first, config.window

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        raw, k = self._heads(self.q(x), "q_norm"), self._heads(self.k(x), "k_norm")
        starts = document_starts(x.shape[1], ctx)
        q, k = ctx.position.rotate(raw, k, ctx)
        arrays = {"q": q, "k": k, "v": self._heads(self.v(x))}
        arrays["far_q"] = self._at_cache_end(raw, mx.arange(x.shape[1])[None], starts, ctx)
        return self._merge(self._in_blocks(ctx, arrays))

    def _mix(self, ctx: Context, arrays: Arrays) -> mx.array:
        q, k, v = (arrays[name] for name in "qkv")
        rows, length = ctx.layout, q.shape[2]
        tokens = Tokens.of(length, rows.segments, rows.valid)
        attend = partial(self._set, ctx)
        near = windowed(attend, tokens, (q, k, v), window=self.window, causal=rows.causal)
        far = first_tokens(
            attend,
            tokens,
            (arrays["far_q"], k, v),
            first=self.first,
            starts=document_starts(length, ctx),
            causal=rows.causal,
            rule=self._left,
        )
        return union([near, far], arrays.get("sinks"))

    def _in_window(self, q_pos: mx.array, k_pos: mx.array) -> mx.array:
        return mx.abs(q_pos - k_pos) < self.window

    def _left(self, q_pos: mx.array, k_pos: mx.array) -> mx.array:
        return q_pos - k_pos >= self.window

    def _sees(self, q_pos: mx.array, k_pos: mx.array) -> mx.array:
        return self._in_window(q_pos, k_pos) | (k_pos < self.first)

    def _at_cache_end(
        self, q: mx.array, index: mx.array, starts: mx.array | None, ctx: Context
    ) -> mx.array:
        """Queries `[B, H, T, K]` rotated by their place in the cache: positions `[1 or B, T]`, but
        never further than the cache is long from a document's start."""
        start = mx.zeros_like(index) if starts is None else starts
        place = mx.minimum(index - start, self.first + self.window - 1) + start
        place = mx.broadcast_to(place, (q.shape[0], q.shape[2]))
        layout = replace(ctx.layout, positions=place)
        return ctx.position.rotate(q, q, replace(ctx, layout=layout))[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """An empty cache: `first` slots that stay, then a ring of `window` slots."""
        slots = self.first + min(self.window, length)
        state = empty_cache(batch, self.n_kv_heads, slots, (self.head_dim, self.head_dim), dtype)
        return state | {"pos": mx.full((batch, slots), -1, dtype=mx.int32)}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`; positions count from each row's first token."""
        raw, k = self._heads(self.q(x), "q_norm"), self._heads(self.k(x), "k_norm")
        v = self._heads(self.v(x))
        q, k = ctx.position.rotate(raw, k, ctx)
        index = (mx.arange(x.shape[1]) + ctx.cursor.offset).astype(mx.int32)[None]
        if ctx.cursor.pad is not None:
            index = index - ctx.cursor.pad[:, None]
        index = mx.broadcast_to(index, x.shape[:2])
        after = self._write(state, {"k": k, "v": v}, index)
        far_q = self._at_cache_end(raw, mx.maximum(index, 0), None, ctx)
        near = after
        if x.shape[1] > 1:
            # the ring has dropped keys that the first queries of this chunk still see
            new = {"k": k, "v": v, "pos": index}
            axes = {"k": 2, "v": 2, "pos": 1}
            near = {
                name: mx.concatenate([state[name], new[name].astype(state[name].dtype)], axis=axis)
                for name, axis in axes.items()
            }
        far = {name: after[name][..., : self.first, :] for name in "kv"}
        far["pos"] = after["pos"][:, : self.first]
        queries = Tokens(index[:, None, :, None])
        sets = [
            self._of_cache(queries, near, q, self._in_window),
            self._of_cache(queries, far, far_q, self._left),
        ]
        sinks = self.sinks[:, None, None] if "sinks" in self else None
        return self._merge(union(sets, sinks).astype(x.dtype)), after

    def _of_cache(self, queries: Tokens, cache: State, q: mx.array, rule: Rule) -> KeySet:
        """Attention over the slots of a cache whose tokens `rule` lets the queries see."""
        keys, values = (self._for_heads(cache[name].astype(q.dtype)) for name in "kv")
        cached = Tokens(cache["pos"][:, None, :, None])
        mask = queries.mask_to(cached, causal=True, rule=rule)
        return self._set(Context(), q, keys, values, mask)

    def _write(self, state: State, new: Arrays, index: mx.array) -> State:
        """The cache with the keys and values of tokens at positions `index [B, T]` in it."""
        slots, last = state["pos"].shape[1], index[:, -1:]
        ring = slots - self.first
        slot = mx.arange(slots)[None]
        turn = last - (last - slot) % ring
        position = mx.where(slot < self.first, slot, turn)
        source = position - index[:, :1]
        fresh = (
            (source >= 0) & (position <= last) & ((slot < self.first) | (position >= self.first))
        )
        source = mx.clip(source, 0, index.shape[1] - 1)
        after = dict(state)
        after["pos"] = mx.where(fresh, position, state["pos"]).astype(mx.int32)
        for name, rows in new.items():
            picked = mx.take_along_axis(rows, source[:, None, :, None], axis=2)
            after[name] = mx.where(
                fresh[:, None, :, None], picked.astype(state[name].dtype), state[name]
            )
        return after


def document_starts(length: int, ctx: Context) -> mx.array | None:
    """The index of the first token of each token's document, `[B, T]`; None where it is 0."""
    segments, valid = ctx.layout.segments, ctx.layout.valid
    if segments is not None:
        begins = mx.pad(segments[:, 1:] != segments[:, :-1], [(0, 0), (1, 0)])
        return mx.cummax(mx.where(begins, mx.arange(length), 0), axis=1)
    if valid is not None:
        first = mx.argmax(valid != 0, axis=1)[:, None].astype(mx.int32)
        return mx.minimum(mx.broadcast_to(first, valid.shape), mx.arange(length))
    return None
