"""Attention within blocks of tokens and their neighbours."""

from functools import partial
from typing import Literal

import mlx.core as mx
import numpy as np
from pydantic import Field, model_validator

from ...core.context import Context
from ...ops.key_patterns import joined_blocks
from ...ops.key_sets import KeySet, Tokens, union
from .sparse_heads import Arrays, DecodingMixer, SparseHeads


class LocalAttention(SparseHeads):
    """Local attention in blocks: a query sees its own block of `window` tokens and the blocks
    around it.

    Query t sees the keys s with `⌊t/w⌋ - look_backward ≤ ⌊s/w⌋ ≤ ⌊t/w⌋ + look_forward`, as in the
    package local-attention (Wang 2020), whose defaults these are; the blocks of Image Transformer
    (Parmar et al. 2018, section 3.3). A causal query sees no key after itself.
    """

    kind: Literal["local_attention"] = "local_attention"
    window: int = Field(ge=1)
    """Tokens w of a block."""
    look_backward: int = Field(1, ge=0)
    """Blocks before its own that a query sees."""
    look_forward: int = Field(1, ge=0)
    """Blocks after its own that a query sees in a pass that is not causal."""
    exact_window: bool = False
    """Whether a causal query sees at most `window * look_backward` tokens before itself, so that
    all see as many, whatever their place in a block (exact_windowsize)."""

    ring: bool = False
    """Whether the first block follows the last in a pass that is not causal (Reformer's code)."""
    pad_to: int | None = Field(None, ge=1)
    """Number of whose multiples rows longer than a block are made by padding, so that a ring may
    have blocks of padding alone; none means `window` (in transformers' Reformer the least common
    multiple of the windows and chunks of its layers)."""

    @model_validator(mode="after")
    def _padding_is_of_a_ring(self) -> "LocalAttention":
        if self.pad_to is not None and (not self.ring or self.pad_to % self.window):
            raise ValueError(
                f"pad_to = {self.pad_to} says which blocks a ring has: it needs ring = true, and "
                f"must be a multiple of window = {self.window}."
            )
        return self

    def build(self, dim: int) -> "LocalAttentionMixer":
        return LocalAttentionMixer(self, dim)

    def keys_seen(self, t: np.ndarray) -> np.ndarray:
        if self.exact_window:
            before: np.ndarray = np.minimum(t, self.window * self.look_backward)
        else:
            blocks = np.minimum(t // self.window, self.look_backward)
            before = t % self.window + blocks * self.window
        return before + 1


class LocalAttentionMixer(DecodingMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; its decode state is a ring of the blocks in reach."""

    def __init__(self, config: LocalAttention, dim: int) -> None:
        super().__init__(config, dim)
        self.window, self.back, self.ahead = (
            config.window,
            config.look_backward,
            config.look_forward,
        )
        self.exact, self.ring = config.exact_window, config.ring
        self.pad_to = config.pad_to
        self.reach = config.window * (config.look_backward + 1)

    def _mix(self, ctx: Context, arrays: Arrays) -> mx.array:
        rows, qkv = ctx.layout, (arrays["q"], arrays["k"], arrays["v"])
        local = joined_blocks(
            partial(self._attend_blocks, ctx),
            Tokens.of(qkv[0].shape[2], rows.segments, rows.valid),
            qkv,
            size=self.window,
            back=self.back,
            ahead=self.ahead,
            causal=rows.causal,
            # every block that is joined is in reach; only an exact window hides some of its keys
            rule=self._sees if rows.causal and self.exact else None,
            ring=self.ring and not rows.causal,
            pad_to=self.pad_to,
        )
        return union([local], arrays.get("sinks"))

    def _attend_blocks(
        self, ctx: Context, q: mx.array, k: mx.array, v: mx.array, seen: mx.array
    ) -> KeySet:
        places = mx.arange(k.shape[3])
        query_places = places[self.back * self.window :][: self.window]
        bias = self._bias_of_blocks(q, k, query_places, places, ctx)
        return self._set(ctx, q, k, v, seen, bias)

    def _sees(self, q_pos: mx.array, k_pos: mx.array) -> mx.array:
        if self.exact:
            return q_pos - k_pos <= self.window * self.back
        return q_pos // self.window - k_pos // self.window <= self.back
