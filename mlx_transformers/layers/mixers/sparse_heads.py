"""Base classes of mixers with a sparse pattern of keys: the pass in blocks, and decoding."""

from abc import abstractmethod
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...core.context import Context, Layout
from ...core.errors import RunError
from ...core.footprint import ActivationShape
from ...core.recompute import recompute
from ...core.shapes import BTD
from ...ops.key_sets import KeySet, attend
from ...ops.masks import Mask
from ..kinds import State
from .attention import SoftmaxHeads, SoftmaxMixer
from .kv_cache import empty_cache, extend

NO_DECODING = (
    "A mixer with global tokens reads the whole sequence for each of its outputs, so it can't "
    "decode token by token. Use it in an encoder."
)

Arrays = dict[str, mx.array]


class SparseHeads(SoftmaxHeads):
    """Fields of attention whose queries read few keys, found in blocks.

    The backward pass recomputes the scores, so that only queries, keys and values are saved.
    """

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, q, k and v before the scores, and the output with merged heads."""
        head_dim = self.width_of_head(dim)
        queries, keys = self.n_heads * head_dim, self.kv_heads * head_dim
        norms = 0.0
        if self.qk_norm is not None:
            norms = (self.n_heads + keys // head_dim) * self.qk_norm.saved_bytes(head_dim, at)
        unclipped = queries + 2 * keys if self.clip is not None else 0
        return (dim + 2 * queries + 2 * keys + unclipped) * at.itemsize + norms

    def flops(self, dim: int, length: int) -> float:
        """Scores and weighted values: `4 · H · K` for each key that a token sees, on average."""
        keys = float(self.keys_seen(np.arange(length)).mean())
        return 4.0 * self.n_heads * self.width_of_head(dim) * keys

    @abstractmethod
    def keys_seen(self, t: np.ndarray) -> np.ndarray:
        """How many keys a causal query at each position of `t` sees, on average over heads."""


class SparseHeadsMixer(SoftmaxMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`, for a subclass that names the key sets."""

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        q, k, v = self._project(x, ctx)
        return self._merge(self._in_blocks(ctx, {"q": q, "k": k, "v": v}))

    @abstractmethod
    def _mix(self, ctx: Context, arrays: Arrays) -> mx.array:
        """Attention `[B, H, T, K]` in float32, from queries `q`, keys `k` and values `v` of every
        head, and `sinks` where there are any. Whatever has a gradient is among `arrays`."""

    def _layout(self, ctx: Context) -> Layout:
        """The facts about the rows that the pattern goes by."""
        return ctx.layout

    def _in_blocks(self, ctx: Context, arrays: Arrays) -> mx.array:
        """`_mix` of `arrays` in their dtype, with its scores recomputed in the backward pass."""
        if "sinks" in self:
            arrays = arrays | {"sinks": self.sinks[:, None, None]}
        position = ctx.position
        inner = ctx.inner(self._layout(ctx), ctx.cursor, position)
        keys = [] if inner.key is None else [inner.key]

        def run(arrays: Arrays, *keys: mx.array) -> mx.array:
            key = mx.stop_gradient(keys[0]) if keys else None
            every = {name: self._for_heads(arrays[name]) for name in "kv"}
            return self._mix(replace(inner, key=key), arrays | every).astype(arrays["q"].dtype)

        if not any(name != "v" and name.endswith("v") for name in arrays):  # values of summaries
            ctx.collected.observe_weights(
                "attention", lambda v: run(arrays | {"v": v}), arrays["v"]
            )
        places = [position] if isinstance(position, nn.Module) else []
        out: mx.array = recompute(places, run)(arrays, *keys)
        return out

    def _set(
        self,
        ctx: Context,
        q: mx.array,
        k: mx.array,
        v: mx.array,
        seen: mx.array | None,
        bias: mx.array | None = None,
    ) -> KeySet:
        """Attention over one set of keys."""
        dropped = self.dropout > 0 and ctx.key is not None
        return attend(
            q,
            k,
            v,
            scale=self.scale,
            seen=seen,
            bias=bias,
            softcap=self.softcap,
            dropout=self.dropout if dropped else 0.0,
            key=ctx.next_key() if dropped else None,
        )

    def _project(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array, mx.array]:
        """Queries `[B, H, T, K]`, keys and values `[B, G, T, K]`, normalised and rotated."""
        q, k = self._heads(self.q(x), "q_norm"), self._heads(self.k(x), "k_norm")
        q, k = ctx.position.rotate(q, k, ctx)
        return q, k, self._heads(self.v(x))

    def _bias_of_blocks(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: Context
    ) -> mx.array | None:
        """The position's bias `[1 or B, H, 1 or N, n, M]` of blocks of queries `[B, H, N, n, K]`
        and keys `[B, H, N, M, K]`, whose positions `[n]` and `[M]` differ alike in every block."""
        B, N = q.shape[0], q.shape[2]
        queries, keys = (x.swapaxes(1, 2).flatten(0, 1) for x in (q * self.scale, k))
        bias = ctx.position.bias(queries, keys, q_pos, k_pos, ctx)
        if bias is None:
            return None
        if bias.shape[0] == 1:
            return bias[:, :, None]
        return bias.reshape(B, N, *bias.shape[1:]).swapaxes(1, 2)

    def _for_heads(self, x: mx.array) -> mx.array:
        """Keys or values `[B, G, T, K]`, repeated for every query head."""
        shared = self.n_heads // self.n_kv_heads
        return x if shared == 1 else mx.repeat(x, shared, axis=1)


class DecodingMixer(SparseHeadsMixer):
    """A sparse pattern that can decode: a query sees keys by the positions of the two alone.

    Attributes:
        reach: how many tokens back a causal query sees at most; None: all.
    """

    reach: int | None = None

    @abstractmethod
    def _sees(self, q_pos: mx.array, k_pos: mx.array) -> mx.array:
        """Whether the pattern lets a query of a causal pass see a key that is not after it, by
        positions `[..., T, 1]` and `[..., 1, S]`: `[..., T, S]`, or `[..., H, T, S]` where heads
        differ."""

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """An empty KV cache for `batch` rows of at most `length` tokens."""
        slots = min(length, self.reach or length)
        return empty_cache(batch, self.n_kv_heads, slots, (self.head_dim, self.head_dim), dtype)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`, at positions `cursor.offset + arange(T)`."""
        q, k, v = self._project(x, ctx)
        cache = extend(state, k, v, ctx, self.reach)
        q_pos, k_pos = cache.q_pos[:, None], cache.k_pos[None, :]
        if ctx.cursor.pad is not None:
            pad = ctx.cursor.pad[:, None, None, None]
            q_pos, k_pos = q_pos - pad, k_pos - pad
        allowed = self._sees(q_pos, k_pos) & cache.visible
        bias = ctx.position.bias(q * self.scale, cache.k, cache.q_pos, cache.k_pos, ctx)
        keys, values = self._for_heads(cache.k), self._for_heads(cache.v)
        return self._attend(q, keys, values, Mask(allowed=allowed), bias, ctx), cache.state


class EncodingMixer(SparseHeadsMixer):
    """A sparse pattern with global tokens, which is bidirectional in every pass."""

    def _layout(self, ctx: Context) -> Layout:
        return replace(ctx.layout, causal=False)

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Raise RunError: global tokens need the whole sequence."""
        raise RunError(NO_DECODING)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Raise RunError, as `init_state`."""
        raise RunError(NO_DECODING)
