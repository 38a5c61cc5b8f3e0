"""Attention free transformer: a mean of values whose weights have no queries."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.attention_free import attention_free
from ...ops.wkv import NEVER, empty_state, wkv
from ..kinds import MixerKind, State
from ..linear import ResidualLinear
from ..parameter import Role
from ..token_masks import document_starts, real_tokens
from .head_states import split_heads, width_of_heads
from .kv_cache import empty_cache, extend


class AttentionFree(MixerKind):
    """Attention free transformer: `y_t = W_o (σ(q_t) Σ_s e^{k_s + w_ts} v_s / Σ_s e^{k_s + w_ts})`.

    Zhai et al. 2021 ([arXiv:2105.14103](https://arxiv.org/abs/2105.14103)). With a window this is
    AFT-conv (section 3.2): each head has a learned bias w for each distance within the window, and
    0 beyond. Without one it is AFT-simple (equation 5), w = 0, whose causal sums and decode state
    don't grow with the row.
    """

    kind: Literal["attention_free"] = "attention_free"
    n_heads: int = Field(1, ge=1)
    """Heads H, each with biases of its own."""
    window: int | None = Field(None, ge=1)
    """Distances that have a bias, from 0 on, in either direction; none means no biases."""

    @model_validator(mode="after")
    def _heads_have_biases(self) -> "AttentionFree":
        if self.window is None and self.n_heads > 1:
            raise ValueError(
                f"n_heads = {self.n_heads} has no use without a window: heads differ in their "
                "biases alone. Set window, or leave n_heads out."
            )
        return self

    def build(self, dim: int) -> "AttentionFreeMixer":
        return AttentionFreeMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, queries, keys, values, sums, weights and means, and the weights of pairs."""
        if self.window is None:
            return 4 * dim * at.itemsize + 9 * dim * FLOAT32_BYTES
        pairs = 2 * self.n_heads * at.length / at.batch * FLOAT32_BYTES
        return 3 * dim * at.itemsize + 8 * dim * FLOAT32_BYTES + pairs

    def flops(self, dim: int, length: int) -> float:
        """Sums over positions, of weighted values and of weights."""
        return 0.0 if self.window is None else 4.0 * dim * (length + 1) / 2


class AttentionFreeMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the decode state is a mean, or all keys and values."""

    roles: ClassVar[dict[str, Role]] = {"bias": "own"}

    def __init__(self, config: AttentionFree, dim: int) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.head_dim = width_of_heads("model.dim", dim, config.n_heads)
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.o = ResidualLinear(dim, dim, bias=False)
        if config.window is not None:
            self.bias = mx.zeros((config.n_heads, 2 * config.window - 1))

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        length, rows = x.shape[1], ctx.layout
        if "bias" not in self and rows.causal:
            return self._simple(x, empty_state(x.shape[0], x.shape[2]), ctx)[0]
        index = mx.arange(length)
        allowed = index[:, None] >= index if rows.causal else mx.full((length, length), True)
        allowed = allowed[None]
        if rows.segments is not None:
            allowed = allowed & (rows.segments[:, :, None] == rows.segments[:, None])
        if rows.valid is not None:
            # each token sees itself: one of padding would have no weight at all
            allowed = (allowed & rows.valid[:, None]) | mx.eye(length, dtype=mx.bool_)
        return self._read(x, *self._keys(x), index, index, allowed[:, None])

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """An empty mean in float32, or an empty KV cache."""
        if "bias" in self:
            return empty_cache(batch, self.n_heads, length, (self.head_dim,) * 2, dtype)
        return {"wkv": empty_state(batch, self.head_dim)}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        if "bias" not in self:
            y, mean = self._simple(x, state["wkv"], ctx)
            return y, {"wkv": mean}
        after = extend(state, *self._keys(x), ctx, None)
        allowed = after.visible | (after.q_pos[:, None] == after.k_pos)
        k = mx.where((after.k_pos >= 0)[:, None], after.k, NEVER)
        return self._read(x, k, after.v, after.q_pos, after.k_pos, allowed), after.state

    def _keys(self, x: mx.array) -> tuple[mx.array, mx.array]:
        return split_heads(self.k(x), self.n_heads), split_heads(self.v(x), self.n_heads)

    def _read(
        self,
        x: mx.array,
        k: mx.array,
        v: mx.array,
        queries: mx.array,
        keys: mx.array,
        allowed: mx.array,
    ) -> mx.array:
        """Means of values `[B, H, S, K]` at positions `keys`, for tokens at positions `queries`."""
        distance = queries[:, None] - keys
        bias = mx.zeros((1, *distance.shape))
        if "bias" in self:
            widest = self.bias.shape[1] // 2
            table = self.bias.astype(mx.float32)[:, mx.clip(distance + widest, 0, 2 * widest)]
            bias = mx.where(mx.abs(distance) <= widest, table, 0.0)
        mean = attention_free(k.astype(mx.float32), v.astype(mx.float32), bias, allowed)
        return self._gated(x, mean.transpose(0, 2, 1, 3).flatten(-2))

    def _simple(self, x: mx.array, state: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        """Means of all values so far: RWKV-4's sums without decay."""
        k, v = self.k(x).astype(mx.float32), self.v(x).astype(mx.float32)
        real = real_tokens(ctx, x.shape[1])
        if real is not None:
            k = mx.where(real[..., None], k, NEVER)
        still, bonus = mx.zeros_like(k), mx.zeros((k.shape[-1],))
        mean, after = wkv(k, v, still, bonus, state, document_starts(ctx))
        return self._gated(x, mean), after

    def _gated(self, x: mx.array, mean: mx.array) -> mx.array:
        y: mx.array = self.o(mx.sigmoid(self.q(x)) * mean.astype(x.dtype))
        return y
