"""Gated linear attention: linear attention with decays computed from the input."""

from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...ops.linear_attention import linear_attention_flops
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


class Gla(MixerKind):
    """Gated linear attention: `S_t = diag(α_t) S_{t-1} + k_t v_tᵀ`, `o_t = S_tᵀ q_t / √K`.

        α = σ(W₂ W₁ x + b)^(1/τ)          y = W_o (norm(o) · silu(W_g x))

    Yang et al. 2024, "Gated Linear Attention Transformers with Hardware-Efficient Training",
    equation 3 and section 4.4. With one decay per head it is the `simple_gla` of their code, and
    the recurrence of Mamba-2. Causal in every pass.
    """

    kind: Literal["gla"] = "gla"
    n_heads: int = Field(ge=1)
    """Heads H."""
    key_dim: int | None = Field(None, ge=1)
    """Width of the queries, and of the keys, of all heads together; none means dim / 2."""
    value_dim: int | None = Field(None, ge=1)
    """Width of the values of all heads together; none means dim."""
    decay: Literal["feature", "head"] = "feature"
    """Whether each feature of the keys has a decay of its own, or each head has one for all."""
    gate_rank: int | None = Field(None, ge=1)
    """Rank of the map from the input to the decays of features; none means 16."""
    normaliser: float = Field(16.0, gt=0)
    """τ: the larger, the slower the state fades."""
    gate: Activation = "silu"
    """The activation of the output gate."""
    norm: Annotated[NormKind, Slot("norm")] = RmsNorm()
    """Normalisation of each head's output; heads share its weight."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    @model_validator(mode="after")
    def _rank_has_a_use(self) -> "Gla":
        if self.decay == "head" and self.gate_rank is not None:
            raise ValueError("gate_rank goes with decay = 'feature': unset it, or change decay.")
        return self

    def widths(self, dim: int) -> tuple[int, int]:
        """Widths K and V of one head."""
        return (
            width_of_heads("mixer.key_dim", self.key_dim or dim // 2, self.n_heads),
            width_of_heads("mixer.value_dim", self.value_dim or dim, self.n_heads),
        )

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, q, k and v, the gate and its log-decays, and the output's own."""
        keys, values = self.key_dim or dim // 2, self.value_dim or dim
        decays = 4.0 * self.n_heads
        if self.decay == "feature":
            decays = (self.gate_rank or 16) + 4.0 * keys
        inside = (dim + 2 * keys + values + decays) * at.itemsize
        return inside + output_bytes(values, at.itemsize, gate=True)

    def flops(self, dim: int, length: int) -> float:
        """Products within chunks and with states."""
        key_dim, value_dim = self.widths(dim)
        return linear_attention_flops(
            length,
            n_heads=self.n_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            chunk=self.chunk,
            per_feature=self.decay == "feature",
        )

    def build(self, dim: int) -> "GlaMixer":
        return GlaMixer(self, dim)


class GlaMixer(MatrixStateMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is a matrix `[K, V]` per head."""

    def __init__(self, config: Gla, dim: int) -> None:
        super().__init__()
        self.n_heads, self.chunk = config.n_heads, config.chunk
        self.normaliser, self.per_feature = config.normaliser, config.decay == "feature"
        self.key_dim, self.value_dim = config.widths(dim)
        keys = self.n_heads * self.key_dim
        self.q, self.k = (nn.Linear(dim, keys, bias=False) for _ in range(2))
        self.v = nn.Linear(dim, self.n_heads * self.value_dim, bias=False)
        if self.per_feature:
            rank = config.gate_rank or 16
            self.down = nn.Linear(dim, rank, bias=False)
            self.up = nn.Linear(rank, keys, bias=True)
        else:
            self.up = nn.Linear(dim, self.n_heads, bias=True)
        self.out = HeadOutput(dim, self.n_heads, self.value_dim, config.norm, config.gate)

    def _mix(self, x: mx.array, state: mx.array | None, ctx: Context) -> tuple[mx.array, mx.array]:
        q, k, v = (split_heads(layer(x), self.n_heads) for layer in (self.q, self.k, self.v))
        reads = {"scale": self.key_dim**-0.5, "chunk": self.chunk}
        out, state = decayed_attention(q, k, v, self._log_decay(x), state, ctx, **reads)
        return self.out(out, x), state

    def _log_decay(self, x: mx.array) -> mx.array:
        """`log α`: `[B, H, T, K]`, or `[B, H, T]`; in float32, since a chunk sums it."""
        gate = self.up(self.down(x)) if self.per_feature else self.up(x)
        decay = split_heads(nn.log_sigmoid(gate.astype(mx.float32)) / self.normaliser, self.n_heads)
        return decay if self.per_feature else decay[..., 0]
