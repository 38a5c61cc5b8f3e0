"""Retention: attention without softmax, whose weights fade by a fixed rate per head."""

from functools import partial
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.linear_attention import linear_attention_flops
from ...ops.masks import Mask
from ...ops.retention import retention_log_decays, retention_parallel
from ...recipe.slot import Slot
from ..ffns.mlp import Activation
from ..kinds import MixerKind, NormKind
from ..norms import RmsNorm
from .head_states import (
    Chunk,
    HeadOutput,
    MatrixStateMixer,
    decayed_attention,
    output_bytes,
    split_heads,
    width_of_heads,
)


class Retention(MixerKind):
    """Multi-scale retention (RetNet): `S_t = γ_h S_{t-1} + k_t v_tᵀ`, `o_t = S_tᵀ q_t / √K`.

        γ_h = 1 - 2^(-5 - h), h = 0 … H - 1          y = W_o (norm(o) · silu(W_g x))

    Sun et al. 2023, "Retentive Network", equations 5 to 8. Queries and keys are rotated by the
    stack's positions. Training computes the chunkwise form, decoding the recurrent one; both are
    the same function. Causal in every pass.
    """

    kind: Literal["retention"] = "retention"
    n_heads: int = Field(ge=1)
    """Heads H, each with its own rate."""
    key_dim: int | None = Field(None, ge=1)
    """Width of the queries, and of the keys, of all heads together; none means dim."""
    value_dim: int | None = Field(None, ge=1)
    """Width of the values of all heads together; none means 2 · dim, as published."""
    gate: Activation = "silu"
    """The activation of the output gate."""
    norm: Annotated[NormKind, Slot("norm")] = RmsNorm(weight=False, eps=1e-6)
    """Normalisation of each head's output, which the paper calls group norm."""
    parallel: bool = False
    """Whether training computes all pairs of tokens, in time and memory that grow with their
    number, as published; its divisors of rows change the result by the eps of `norm` alone."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    def widths(self, dim: int) -> tuple[int, int]:
        """Widths K and V of one head."""
        return (
            width_of_heads("mixer.key_dim", self.key_dim or dim, self.n_heads),
            width_of_heads("mixer.value_dim", self.value_dim or 2 * dim, self.n_heads),
        )

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, q, k and v, and the output's own."""
        keys, values = self.key_dim or dim, self.value_dim or 2 * dim
        inside = float((dim + 2 * keys + values) * at.itemsize)
        if self.parallel:
            inside += 3.0 * self.n_heads * at.length * FLOAT32_BYTES
        return inside + output_bytes(values, at.itemsize, gate=True)

    def flops(self, dim: int, length: int) -> float:
        """Products within chunks and with states."""
        key_dim, value_dim = self.widths(dim)
        if self.parallel:
            return 2.0 * self.n_heads * (key_dim + value_dim) * length
        return linear_attention_flops(
            length,
            n_heads=self.n_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            chunk=self.chunk,
        )

    def build(self, dim: int) -> "RetentionMixer":
        return RetentionMixer(self, dim)


class RetentionMixer(MatrixStateMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is a matrix `[K, V]` per head."""

    def __init__(self, config: Retention, dim: int) -> None:
        super().__init__()
        self.n_heads, self.chunk = config.n_heads, config.chunk
        self.parallel = config.parallel
        self.key_dim, self.value_dim = config.widths(dim)
        self.q, self.k = (nn.Linear(dim, self.n_heads * self.key_dim, bias=False) for _ in range(2))
        self.v = nn.Linear(dim, self.n_heads * self.value_dim, bias=False)
        self.out = HeadOutput(dim, self.n_heads, self.value_dim, config.norm, config.gate)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        if not self.parallel:
            return super().__call__(x, ctx)
        q, k, v = self._project(x, ctx)
        mask = Mask(True, None, ctx.layout.segments, ctx.layout.valid)
        mix = partial(retention_parallel, q, k, scale=self.key_dim**-0.5, mask=mask)
        ctx.collected.observe_weights("implied", mix, v)
        return self.out(mix(v), x)

    def _project(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array, mx.array]:
        q, k, v = (split_heads(layer(x), self.n_heads) for layer in (self.q, self.k, self.v))
        q, k = ctx.position.rotate(q, k, ctx)
        return q, k, v

    def _mix(self, x: mx.array, state: mx.array | None, ctx: Context) -> tuple[mx.array, mx.array]:
        q, k, v = self._project(x, ctx)
        decay = mx.array(retention_log_decays(self.n_heads))[None, :, None]
        decay = mx.broadcast_to(decay, (1, self.n_heads, v.shape[2]))
        reads = {"scale": self.key_dim**-0.5, "chunk": self.chunk}
        out, state = decayed_attention(q, k, v, decay, state, ctx, **reads)
        return self.out(out, x), state
