"""LongT5's transient-global attention: a window, and summaries of blocks of tokens."""

from typing import Annotated, ClassVar, Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...ops.key_patterns import windowed
from ...ops.key_sets import KeySet, Tokens, union
from ...recipe.slot import Slot
from ..kinds import NormKind, SplitKind
from .sparse_heads import Arrays, EncodingMixer, SparseHeads


class TransientGlobal(SparseHeads):
    """Transient-global attention: a window on both sides, and a summary of every block of tokens.

    Guo et al. 2021 (LongT5), section 3.1: the summary of a block is the normalised sum of its
    tokens, of which keys and values are computed by the layer's own projections. Tokens after the
    last whole block belong to it; a row shorter than a block has no summary. Positions of kind
    `buckets` add a bias to the window, and with `summaries` one of the distance in blocks. It reads
    rows in both directions, whatever the pass, and is for encoders.
    """

    kind: Literal["transient_global"] = "transient_global"
    window: int = Field(ge=1)
    """Tokens that a query sees on each side, itself included (local_radius + 1)."""
    block: int = Field(16, ge=1)
    """Tokens of a summary (global_block_size)."""
    norm: Annotated[NormKind, Slot("norm")]
    """Normalisation of the summaries."""

    # its norm reads the residual stream, and would be counted once by every process
    part: ClassVar = SplitKind.part

    def build(self, dim: int) -> "TransientGlobalMixer":
        return TransientGlobalMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """As all sparse patterns, and the summaries with their keys and values."""
        groups = self.kv_heads
        side = (dim + 2 * groups * self.width_of_head(dim)) * at.itemsize
        normed = self.norm.saved_bytes(dim, at)
        return super().saved_bytes(dim, at) + (side + normed) / self.block

    def flops(self, dim: int, length: int) -> float:
        """As all sparse patterns, and the keys and values of summaries."""
        groups = self.kv_heads
        side = 4.0 * dim * groups * self.width_of_head(dim) * (length // self.block) / length
        return super().flops(dim, length) + side

    def keys_seen(self, t: np.ndarray) -> np.ndarray:
        past: np.ndarray = np.minimum(t, self.window - 1)
        counts: np.ndarray = past + past[::-1] + 1 + len(t) // self.block
        return counts


class TransientGlobalMixer(EncodingMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`, not causal."""

    def __init__(self, config: TransientGlobal, dim: int) -> None:
        super().__init__(config, dim)
        self.window, self.block = config.window, config.block
        self.norm = config.norm.build(dim)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        q, k, v = self._project(x, ctx)
        arrays = {"q": q, "k": k, "v": v}
        if x.shape[1] >= self.block:
            side = self.norm(self._summaries(x, ctx))
            arrays["side_k"] = self._heads(self.k(side), "k_norm")
            arrays["side_v"] = self._heads(self.v(side))
        return self._merge(self._in_blocks(ctx, arrays))

    def _whole_blocks(self, length: int, ctx: Context) -> mx.array:
        """The number of whole blocks of each row, `[1 or B, 1]`."""
        if ctx.layout.valid is None:
            return mx.array([[length // self.block]])
        return (ctx.layout.valid != 0).sum(axis=1, keepdims=True) // self.block

    def _summaries(self, x: mx.array, ctx: Context) -> mx.array:
        """The sums of the blocks of each row, `[B, N, D]`, its tokens after the last whole block
        in that one."""
        batch, length, dim = x.shape
        n = length // self.block
        if ctx.layout.valid is not None:
            x = mx.where((ctx.layout.valid != 0)[..., None], x, mx.zeros((), x.dtype))
        filled = mx.pad(x, [(0, 0), (0, (n + 1) * self.block - length), (0, 0)])
        sums = filled.reshape(batch, n + 1, self.block, dim).sum(axis=2)
        if ctx.layout.segments is not None:
            return sums[:, :n]
        last = mx.arange(n) == self._whole_blocks(length, ctx) - 1
        return sums[:, :n] + mx.where(last[..., None], sums[:, 1:], mx.zeros((), x.dtype))

    def _mix(self, ctx: Context, arrays: Arrays) -> mx.array:
        layout, length = ctx.layout, arrays["q"].shape[2]
        qkv = (arrays["q"], arrays["k"], arrays["v"])

        def attend(q: mx.array, k: mx.array, v: mx.array, seen: mx.array) -> KeySet:
            places = mx.arange(k.shape[3])
            query_places = places[q.shape[3] : 2 * q.shape[3]]
            bias = self._bias_of_blocks(q, k, query_places, places, ctx)
            return self._set(ctx, q, k, v, seen, bias)

        tokens = Tokens.of(length, layout.segments, layout.valid)
        sets = [windowed(attend, tokens, qkv, window=self.window, causal=False)]
        if "side_k" in arrays:
            sets.append(self._side(ctx, arrays))
        return union(sets, arrays.get("sinks"))

    def _side(self, ctx: Context, arrays: Arrays) -> KeySet:
        """Attention over the summaries of whole blocks, in packed rows of the own document."""
        length = arrays["q"].shape[2]
        n_blocks, index = self._whole_blocks(length, ctx), mx.arange(length // self.block)
        query_block = mx.minimum(mx.arange(length) // self.block, n_blocks - 1)
        bias = ctx.position.summary_bias(index - query_block[..., None])
        allowed = (index < n_blocks)[:, None, None, :]
        if ctx.layout.segments is not None:
            row = ctx.layout.segments
            ends = row[:, : len(index) * self.block].reshape(row.shape[0], -1, self.block)
            same = [row[:, :, None] == ends[:, None, :, i] for i in (0, -1)]
            allowed = allowed & (same[0] & same[1])[:, None]
        keys, values = (self._for_heads(arrays[name]) for name in ("side_k", "side_v"))
        return self._set(ctx, arrays["q"], keys, values, allowed, bias)
