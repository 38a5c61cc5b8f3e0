"""Multi-head latent attention: keys and values from one low-rank vector per token."""

import math
from functools import partial
from typing import Annotated, Literal, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.score_bias import DistanceBias
from ...core.shapes import BTD
from ...ops.attention import attention, attention_saved_bytes
from ...ops.masks import Mask
from ...recipe.slot import Slot
from ..kinds import MixerKind, NormKind, ScoreBias, State
from ..linear import ResidualLinear, matrix
from .kv_cache import empty_cache, extend
from .row_mask import row_mask


class Latent(MixerKind):
    """Multi-head latent attention: `c = norm(W_d x)`, keys and values of every head from c.

    DeepSeek-AI 2024 (DeepSeek-V2), section 2.1 and appendix C. A query is `[nope, rope]` and a key
    `[W_k c, rotated W_r x]`: only the rope part is rotated, and keys share it among all heads.
    Queries may come from a low-rank vector too. The KV cache holds c and the rotated part,
    `kv_rank + rope_dim` numbers per token; decoding applies W_k to the queries and W_v to the
    weighted sum (section 2.1.2), so that all heads attend to c itself.
    """

    kind: Literal["latent"] = "latent"
    n_heads: int = Field(ge=1)
    """Heads H."""
    kv_rank: int = Field(ge=1)
    """Width of the latent c, from which keys and values come."""
    q_rank: int | None = Field(None, ge=1)
    """Width of the low-rank vector from which queries come; none means x itself."""
    nope_dim: int = Field(ge=1)
    """Features of a head's query or key that are not rotated."""
    rope_dim: int = Field(ge=2)
    """Features of a head's query or key that are rotated."""
    value_dim: int = Field(ge=1)
    """Width of a head's value."""
    norm: Annotated[NormKind, Slot("norm")]
    """The normalisation of the low-rank vectors."""
    scale: float | None = Field(None, gt=0)
    """Multiplies the scores; none means 1/√(nope_dim + rope_dim)."""
    bias: bool = False
    """Whether the projections to the low-rank vectors have a bias."""
    out_bias: bool = False
    """Whether the output projection has a bias."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the attention weights."""

    @property
    def score_bias(self) -> ScoreBias:
        """Biases of positions are added to the scores."""
        return "adds"

    @property
    def rewinds(self) -> bool:
        return True

    def flops(self, dim: int, length: int) -> float:
        """Scores and weighted values, for each key that a token sees, on average."""
        return self.n_heads * (self.nope_dim + self.rope_dim + self.value_dim) * (length + 1.0)

    def build(self, dim: int) -> "LatentMixer":
        return LatentMixer(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, low-rank vectors, q, k, v, statistics of the scores, output, and merged output."""
        key = self.n_heads * (self.nope_dim + self.rope_dim)
        value = self.n_heads * self.value_dim
        ranks = [rank for rank in (self.kv_rank, self.q_rank) if rank]
        norms = sum(self.norm.saved_bytes(rank, at) for rank in ranks)
        drops = self.dropout > 0
        scores = attention_saved_bytes(
            at, self.n_heads, keys=at.length, mask=Mask(), dropout=drops, bias=at.biased
        )
        inside = FLOAT32_BYTES if at.cpu else at.itemsize
        around = (dim + sum(ranks) + value) * at.itemsize
        return around + norms + 2 * (key + value) * inside + scores


class Projected(NamedTuple):
    """The projections of T tokens, before rotation.

    Attributes:
        q_nope: `[B, H, T, nope_dim]`, the part of the queries without positions.
        q_rope: `[B, H, T, rope_dim]`, the part that is rotated.
        latent: `[B, T, R]`, the vector c from which keys and values come.
        k_rope: `[B, 1, T, rope_dim]`, the rotated part of the keys, one for all heads.
    """

    q_nope: mx.array
    q_rope: mx.array
    latent: mx.array
    k_rope: mx.array


class LatentMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`, and `step` with a cache of latents."""

    def __init__(self, config: Latent, dim: int) -> None:
        super().__init__()
        self.config = config
        self.n_heads = heads = config.n_heads
        self.dropout = config.dropout
        self.key_dim = config.nope_dim + config.rope_dim
        self.scale = config.scale or 1.0 / math.sqrt(self.key_dim)
        norm = config.norm
        if config.q_rank is None:
            self.q = nn.Linear(dim, heads * self.key_dim, bias=False)
        else:
            self.q_down = nn.Linear(dim, config.q_rank, bias=config.bias)
            self.q_norm = norm.build(config.q_rank)
            self.q = nn.Linear(config.q_rank, heads * self.key_dim, bias=False)
        self.kv_down = nn.Linear(dim, config.kv_rank + config.rope_dim, bias=config.bias)
        self.kv_norm = norm.build(config.kv_rank)
        self.kv = nn.Linear(
            config.kv_rank, heads * (config.nope_dim + config.value_dim), bias=False
        )
        self.o = ResidualLinear(heads * config.value_dim, dim, bias=config.out_bias)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        projected = self._project(x)
        q_rope, k_rope = ctx.position.rotate(projected.q_rope, projected.k_rope, ctx)
        q = mx.concatenate([projected.q_nope, q_rope], axis=-1)
        k, v = self._expand(projected.latent, k_rope)
        mask = row_mask(ctx, x.shape[1])
        places = mx.arange(x.shape[1])
        bias: mx.array | DistanceBias | None = ctx.position.distance_bias(q * self.scale, k, ctx)
        if bias is None:
            bias = ctx.position.bias(q * self.scale, k, places, places, ctx)
        weigh = partial(self._attend, q, k, mask=mask, bias=bias, ctx=ctx)
        ctx.collected.observe_weights("attention", weigh, v)
        return self._merge(weigh(v))

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """An empty cache for `batch` rows of at most `length` tokens: rotated parts as `k`,
        latents as `v`, one head each."""
        return empty_cache(batch, 1, length, (self.config.rope_dim, self.config.kv_rank), dtype)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`, at positions `cursor.offset + arange(T)`."""
        projected = self._project(x)
        q_rope, k_rope = ctx.position.rotate(projected.q_rope, projected.k_rope, ctx)
        cache = extend(state, k_rope, projected.latent[:, None], ctx, None)
        to_key, to_value = self._absorbed()
        q = mx.concatenate([projected.q_nope @ to_key, q_rope], axis=-1)
        k = mx.concatenate([cache.v, cache.k], axis=-1)
        bias = ctx.position.bias(q * self.scale, k, cache.q_pos, cache.k_pos, ctx)
        y = self._attend(q, k, cache.v, cache.mask, bias, ctx)
        return self._merge(y @ to_value.swapaxes(-1, -2)), cache.state

    def _project(self, x: mx.array) -> Projected:
        q = self.q(self.q_norm(self.q_down(x)) if "q_down" in self else x)
        q = q.reshape(*q.shape[:2], self.n_heads, self.key_dim).transpose(0, 2, 1, 3)
        q_nope, q_rope = mx.split(q, [self.config.nope_dim], axis=-1)
        latent, k_rope = mx.split(self.kv_down(x), [self.config.kv_rank], axis=-1)
        return Projected(q_nope, q_rope, self.kv_norm(latent), k_rope[:, None])

    def _expand(self, latent: mx.array, k_rope: mx.array) -> tuple[mx.array, mx.array]:
        """Keys and values of every head, `[B, H, T, .]`."""
        kv = self.kv(latent).reshape(*latent.shape[:2], self.n_heads, -1).transpose(0, 2, 1, 3)
        k, v = mx.split(kv, [self.config.nope_dim], axis=-1)
        shared = mx.broadcast_to(k_rope, (*k.shape[:3], k_rope.shape[-1]))
        return mx.concatenate([k, shared], axis=-1), v

    def _absorbed(self) -> tuple[mx.array, mx.array]:
        """The weights from the latent to a head's key `[H, nope_dim, R]` and value
        `[H, value_dim, R]`, which decoding applies to queries and outputs instead."""
        weight = matrix(self.kv).reshape(self.n_heads, -1, self.config.kv_rank)
        to_key, to_value = mx.split(weight, [self.config.nope_dim], axis=1)
        return to_key, to_value

    def _attend(
        self,
        q: mx.array,
        k: mx.array,
        v: mx.array,
        mask: Mask,
        bias: mx.array | DistanceBias | None,
        ctx: Context,
    ) -> mx.array:
        dropped = self.dropout and ctx.key is not None
        return attention(
            q,
            k,
            v,
            scale=self.scale,
            mask=mask,
            bias=bias,
            dropout=self.dropout if dropped else 0.0,
            key=ctx.next_key() if dropped else None,
        )

    def _merge(self, y: mx.array) -> mx.array:
        out: mx.array = self.o(y.transpose(0, 2, 1, 3).flatten(-2))
        return out
