"""Longformer's attention: a dilated window, and global tokens with projections of their own."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Literal, Self

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import ActivationShape
from ...core.shapes import BTD
from ...ops.key_patterns import by_heads, dilated_window
from ...ops.key_sets import KeySet, Tokens, union
from ..kinds import ScoreBias
from .sparse_heads import Arrays, DecodingMixer, EncodingMixer, SparseHeads


class Longformer(SparseHeads):
    """Longformer's attention: a window, dilated by head, and a few global tokens.

    Beltagy et al. 2020, section 3.1. A query sees the keys less than `window` steps of its head's
    dilation away. Global tokens read every token, and every token reads them; their own queries,
    and the keys and values these read, have projections of their own. With global tokens rows are
    read in both directions, whatever the pass; without them a causal pass sees the past alone.
    """

    kind: Literal["longformer"] = "longformer"
    window: int = Field(ge=1)
    """Tokens that a query sees on each side, itself included (half of attention_window, plus 1)."""
    dilation: int | list[Annotated[int, Field(ge=1)]] = 1
    """Distance between the keys of a window; a list has one for each head."""
    n_global: int | None = Field(None, ge=0)
    """Global tokens at the beginning of each row, in a pass that doesn't say which they are; none
    means that there are never any, so that their projections are left out."""

    @property
    def score_bias(self) -> ScoreBias:
        """Its pattern has no place for a bias."""
        return "refuses"

    def check(self, dim: int) -> None:
        super().check(dim)
        if isinstance(self.dilation, list) and len(self.dilation) != self.n_heads:
            raise RecipeError(
                f"mixer.dilation has {len(self.dilation)} entries for mixer.n_heads = "
                f"{self.n_heads} heads. Give one for each head, or a single number."
            )

    def part(self, dim: int, n: int) -> Self:
        """The kind with an n-th of the heads; raises RecipeError if their dilations differ."""
        if isinstance(self.dilation, list):
            raise RecipeError(
                f"mixer.dilation is a list, whose heads can't be shared evenly by {n} processes. "
                "Give one number for all heads, or leave train.tensor_parallel out."
            )
        return super().part(dim, n)

    @property
    def dilations(self) -> list[int]:
        """The dilation of each head."""
        if isinstance(self.dilation, list):
            return self.dilation
        return [self.dilation] * self.n_heads

    def build(self, dim: int) -> "DilatedWindowMixer | LongformerMixer":
        if self.n_global is None:
            return DilatedWindowMixer(self, dim)
        return LongformerMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """As all sparse patterns, and the keys and values of global queries."""
        groups = 0 if self.n_global is None else self.kv_heads
        twice = 2 * groups * self.width_of_head(dim) * at.itemsize
        return super().saved_bytes(dim, at) + twice

    def flops(self, dim: int, length: int) -> float:
        """As all sparse patterns; the projection of global queries runs for them alone."""
        flops = super().flops(dim, length)
        if self.n_global is None:
            return flops
        share = min(self.n_global, length) / length
        return flops - 2.0 * dim * self.n_heads * self.width_of_head(dim) * (1 - share)

    def keys_seen(self, t: np.ndarray) -> np.ndarray:
        steps = np.stack([np.minimum(t // d, self.window - 1) for d in self.dilations])
        past: np.ndarray = steps.mean(axis=0)
        if self.n_global is None:
            return past + 1
        return np.where(t < self.n_global, len(t), past + past[::-1] + 1 + self.n_global)


class DilatedWindowMixer(DecodingMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; its decode state is a ring of the tokens in reach."""

    def __init__(self, config: Longformer, dim: int) -> None:
        super().__init__(config, dim)
        self.config, self.window = config, config.window
        self.reach = (config.window - 1) * max(config.dilations) + 1

    def _mix(self, ctx: Context, arrays: Arrays) -> mx.array:
        q, k, v = (arrays[name] for name in "qkv")
        tokens = Tokens.of(q.shape[2], ctx.layout.segments, ctx.layout.valid)
        run = partial(self._window, ctx, tokens)
        return union([by_heads(self.config.dilations, run, (q, k, v))], arrays.get("sinks"))

    def _window(
        self, ctx: Context, tokens: Tokens, qkv: tuple[mx.array, mx.array, mx.array], dilation: int
    ) -> KeySet:
        return dilated_window(
            partial(self._set, ctx),
            tokens,
            qkv,
            window=self.window,
            dilation=dilation,
            causal=ctx.layout.causal,
        )

    def _sees(self, q_pos: mx.array, k_pos: mx.array) -> mx.array:
        dilation = mx.array(self.config.dilations)[:, None, None]
        away = q_pos - k_pos
        return (away % dilation == 0) & (away < self.window * dilation)


class LongformerMixer(EncodingMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`, not causal; `ctx.layout.global_tokens` says which tokens
    are global, otherwise the first `n_global` are."""

    def __init__(self, config: Longformer, dim: int) -> None:
        super().__init__(config, dim)
        self.config, self.window = config, config.window
        self.n_global = config.n_global or 0
        self.global_q = nn.Linear(dim, self.n_heads * self.head_dim, bias=config.bias)
        self.global_k = nn.Linear(dim, self.n_kv_heads * self.head_dim, bias=config.bias)
        self.global_v = nn.Linear(dim, self.n_kv_heads * self.head_dim, bias=config.bias)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        q, k, v = self._project(x, ctx)
        arrays = {"q": q, "k": k, "v": v}
        place = self._places(x, ctx)
        if place.shape[1]:
            rows = mx.take_along_axis(x, place[..., None], axis=1)
            gq, gk = (
                self._heads(self.global_q(rows), "q_norm"),
                self._heads(self.global_k(x), "k_norm"),
            )
            at = replace(ctx, layout=replace(ctx.layout, positions=place))
            arrays["global_q"] = ctx.position.rotate(gq, gq, at)[0]
            arrays["global_k"] = ctx.position.rotate(gk, gk, ctx)[1]
            arrays["global_v"] = self._heads(self.global_v(x))
        return self._merge(self._in_blocks(ctx, arrays))

    def _is_global(self, length: int, ctx: Context) -> mx.array:
        """Mask of the global tokens, `[1 or B, T]`."""
        if ctx.layout.global_tokens is not None:
            return ctx.layout.global_tokens != 0
        return (mx.arange(length) < self.n_global)[None]

    def _places(self, x: mx.array, ctx: Context) -> mx.array:
        """The positions of the global tokens, `[B, n]`; a row with fewer has others after them."""
        batch, length = x.shape[:2]
        if ctx.layout.global_tokens is None:
            place = mx.arange(min(self.n_global, length))[None]
        else:
            chosen = self._is_global(length, ctx)
            most = int(np.array(chosen.sum(axis=1)).max())
            index = mx.arange(length)
            order = mx.argsort(mx.where(chosen, index, index + length), axis=1)
            place = order[:, :most].astype(mx.int32)
        return mx.broadcast_to(place, (batch, place.shape[1]))

    def _mix(self, ctx: Context, arrays: Arrays) -> mx.array:
        q, k, v = (arrays[name] for name in "qkv")
        layout, length = ctx.layout, q.shape[2]
        sinks = arrays.get("sinks")
        tokens = Tokens.of(length, layout.segments, layout.valid)
        if "global_q" not in arrays:
            return union([self._windows(ctx, tokens, (q, k, v))], sinks)
        chosen, place = self._is_global(length, ctx), self._places(q.swapaxes(1, 2), ctx)
        valid = ~chosen if layout.valid is None else ~chosen & (layout.valid != 0)
        near = self._windows(ctx, Tokens.of(length, layout.segments, valid), (q, k, v))
        heads = Tokens(place[:, None, :, None], *tokens_at(tokens, chosen, place))
        keys, values = (mx.take_along_axis(x, place[:, None, :, None], axis=2) for x in (k, v))
        seen = tokens.mask_to(heads, causal=False)
        y = union([near, self._set(ctx, q, keys, values, seen)], sinks)
        keys, values = (self._for_heads(arrays[name]) for name in ("global_k", "global_v"))
        seen = heads.mask_to(tokens, causal=False)
        read = union([self._set(ctx, arrays["global_q"], keys, values, seen)], sinks)
        rank = mx.maximum(mx.cumsum(chosen.astype(mx.int32), axis=1) - 1, 0)
        rank = mx.broadcast_to(rank, (q.shape[0], length))
        at_tokens = mx.take_along_axis(read, rank[:, None, :, None], axis=2)
        return mx.where(chosen[:, None, :, None], at_tokens, y)

    def _windows(
        self, ctx: Context, tokens: Tokens, qkv: tuple[mx.array, mx.array, mx.array]
    ) -> KeySet:
        """The window of every head."""
        run = partial(dilated_window, partial(self._set, ctx), tokens, causal=False)
        return by_heads(
            self.config.dilations, lambda qkv, d: run(qkv, window=self.window, dilation=d), qkv
        )


def tokens_at(
    tokens: Tokens, chosen: mx.array, place: mx.array
) -> tuple[mx.array | None, mx.array]:
    """Documents and validity `[B, 1, n, 1]` of the global tokens at `place [B, n]`: valid where the
    row has so many of them, and they aren't padding."""
    at = place[:, None, :, None]
    valid = mx.take_along_axis(mx.broadcast_to(chosen, (place.shape[0], chosen.shape[1])), place, 1)
    valid = valid[:, None, :, None]
    if tokens.valid is not None:
        valid = valid & (mx.take_along_axis(tokens.valid, at, axis=2) != 0)
    segments = tokens.segments
    return None if segments is None else mx.take_along_axis(segments, at, axis=2), valid
