"""Attention by locality-sensitive hashing (Reformer)."""

import math
from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.attention import attention_naive
from ...ops.lsh import SELF_SCORE, LshPattern, hash_buckets, lsh_attention, shared_keys
from ..kinds import State
from .kv_cache import empty_cache, extend
from .projected import ProjectedHeads, ProjectedMixer


class LshAttention(ProjectedHeads):
    """Attention among queries that hash alike: `R` rounds, sorted by bucket, in chunks.

    Kitaev et al. 2020 (Reformer), section 2. Queries are the keys too, divided by their norms; a
    position attends itself only where it sees no other. In a causal pass later tokens move the
    borders of chunks, so that what an early token sees depends on them, as in the published code.
    The rotations of the hashes follow from `hash_seed`. A sequence of one chunk has exact
    attention. Decoding reads every cached key: hashing approximates that.
    """

    kind: Literal["lsh_attention"] = "lsh_attention"
    chunk: int = Field(ge=1)
    """Positions of a chunk M."""
    n_hashes: int = Field(1, ge=1)
    """Rounds of hashing R."""
    n_buckets: int | tuple[int, ...]
    """Buckets of a round, even; or even factors whose product they are, each hashed apart. About
    twice as many as chunks."""
    before: int = Field(1, ge=0)
    """Chunks before the own one that are attended."""
    after: int = Field(0, ge=0)
    """Chunks after it; none in a causal pass."""
    across_buckets: bool = True
    """Whether neighbours in the order that hash otherwise are attended."""
    duplicates: bool = True
    """Whether a pair that several rounds see counts several times."""
    scale: float | None = Field(None, gt=0)
    """Factor of the scores of keys of norm 1; none means 1/√K (trax and transformers: 1)."""
    eps: float = Field(1e-6, ge=0)
    """Added to the mean square of a key before its norm divides it."""
    hash_seed: int = Field(0, ge=0)
    """Seed of the rotations that hash."""
    pad_to: int | None = Field(None, ge=1)
    """Number of whose multiples rows longer than a chunk are made by padding, which is last in the
    order; none means `chunk` (in transformers' Reformer the least common multiple of the windows
    and chunks of its layers)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the attention weights."""

    @property
    def factors(self) -> list[int]:
        """The numbers of buckets that are hashed apart."""
        return [self.n_buckets] if isinstance(self.n_buckets, int) else list(self.n_buckets)

    @model_validator(mode="after")
    def _buckets_are_even(self) -> "LshAttention":
        if odd := [n for n in self.factors if n < 2 or n % 2]:
            raise ValueError(
                f"n_buckets has {odd[0]}: hashes come in pairs of a direction and its opposite, so "
                "that it must be even, and at least 2."
            )
        return self

    @model_validator(mode="after")
    def _padding_fills_chunks(self) -> "LshAttention":
        if self.unit % self.chunk:
            raise ValueError(
                f"pad_to = {self.pad_to} must be a multiple of chunk = {self.chunk}: rows are cut "
                "into whole chunks."
            )
        return self

    @property
    def unit(self) -> int:
        """The number of whose multiples rows longer than a chunk are."""
        return self.chunk if self.pad_to is None else self.pad_to

    def build(self, dim: int) -> "LshAttentionMixer":
        return LshAttentionMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, heads, sorted rows and their neighbourhoods, and the scores of all rounds."""
        width, rounds, span = self._sizes(dim, at.length)
        pairs = self.n_heads * span * min(self.chunk, at.length)
        rows = width * (2 + 2 * span) + (4 if self.dropout else 3) * pairs
        return (dim + 2 * width) * at.itemsize + rounds * rows * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Hashes, and scores and weighted values of a neighbourhood in each round."""
        width, rounds, span = self._sizes(dim, length)
        hashes = rounds * width * sum(self.factors) if length > self.chunk else 0
        rows = -(-length // self.unit) * self.unit / length if length > self.chunk else 1.0
        return rows * (hashes + 4.0 * rounds * width * span * min(self.chunk, length))

    def _sizes(self, dim: int, length: int) -> tuple[int, int, int]:
        """Width of all heads, rounds, and chunks of a neighbourhood, at a length."""
        alone = length <= self.chunk
        span = 1 if alone else 1 + self.before + self.after
        return self.n_heads * self.width_of_head(dim), 1 if alone else self.n_hashes, span


class LshAttentionMixer(ProjectedMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`, and `step` with a KV cache."""

    def __init__(self, config: LshAttention, dim: int) -> None:
        super().__init__(config, dim, shared=True)
        self.config, self.dropout = config, config.dropout
        self.scale = config.scale or 1.0 / math.sqrt(self.head_dim)
        half = sum(config.factors) // 2
        shape = (self.n_heads, self.head_dim, config.n_hashes, half)
        # a constant, by its name: it follows from the recipe, and no checkpoint holds it
        rng = np.random.default_rng(config.hash_seed)
        self._rotations = mx.array(rng.standard_normal(shape, "f"))

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        qk, v, layout = self._heads(self.q(x)), self._heads(self.v(x)), ctx.layout
        turned, _ = ctx.position.rotate(qk, qk, ctx)
        T = x.shape[1]
        pattern = self._pattern(T, causal=layout.causal)
        alone = pattern.chunk >= T
        missing = 0 if alone else -T % self.config.unit
        valid, segments = layout.valid, layout.segments
        if missing:
            valid = mx.ones(x.shape[:2], mx.bool_) if valid is None else valid
            valid = mx.pad(valid, [(0, 0), (0, missing)])
            segments = None if segments is None else mx.pad(segments, [(0, 0), (0, missing)])
            sides = [(0, 0), (0, 0), (0, missing), (0, 0)]
            qk, turned, v = (mx.pad(y, sides) for y in (qk, turned, v))
        dropped = self.dropout and ctx.key is not None
        y = lsh_attention(
            turned,
            v,
            self._buckets(qk, valid),
            pattern,
            scale=self.scale,
            eps=self.config.eps,
            valid=None if valid is None else valid[:, None],
            segments=None if segments is None else segments[:, None],
            dropout=self.dropout if dropped else 0.0,
            key=mx.stop_gradient(ctx.next_key()) if dropped else None,
        )
        return self._merge(y[:, :, :T].astype(x.dtype))

    def _pattern(self, length: int, *, causal: bool) -> LshPattern:
        """The keys of a query; a row of one chunk has no others to attend."""
        config, alone = self.config, length <= self.config.chunk
        return LshPattern(
            length if alone else config.chunk,
            0 if alone else config.before,
            0 if alone else config.after,
            causal,
            config.across_buckets or alone,
            config.duplicates or alone,
        )

    def _buckets(self, qk: mx.array, valid: mx.array | None) -> mx.array:
        """The buckets `[B, H, R, T]`; padding has one of its own, the last."""
        if qk.shape[2] <= self.config.chunk:
            return mx.zeros((*qk.shape[:2], 1, qk.shape[2]), mx.int32)
        buckets = hash_buckets(qk, self._rotations, self.config.factors)
        if valid is None:
            return buckets
        return mx.where(valid[:, None, None], buckets, math.prod(self.config.factors))

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """An empty KV cache for `batch` rows of at most `length` tokens."""
        return empty_cache(batch, self.n_heads, length, (self.head_dim, self.head_dim), dtype)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`, which attend all cached keys but their own."""
        q, v = self._heads(self.q(x)), self._heads(self.v(x))
        q, _ = ctx.position.rotate(q, q, ctx)
        cache = extend(state, shared_keys(q, self.config.eps).astype(x.dtype), v, ctx, None)
        itself = cache.q_pos[:, None] == cache.k_pos[None, :]
        bias = mx.where(itself, SELF_SCORE, 0.0)[None, None]
        y = attention_naive(q, cache.k, cache.v, scale=self.scale, mask=cache.mask, bias=bias)
        return self._merge(y.astype(x.dtype)), cache.state
