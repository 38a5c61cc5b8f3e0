"""Gated slot attention: softmax over slots of a fixed number that tokens are written to."""

from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.activations import ACTIVATIONS
from ...ops.linear_attention import linear_attention_flops
from ...ops.slot_attention import slot_attention
from ...recipe.slot import Slot
from ..ffns.mlp import Activation
from ..kinds import MixerKind, NormKind, State
from ..linear import ResidualLinear
from ..norms import RmsNorm
from .head_states import Chunk, row_facts, split_heads, width_of_heads


class SlotAttention(MixerKind):
    """Gated slot attention: keys and values of N slots that fade and are written to by each token.

        α = σ(W_f x)^(1/τ)     K_t = diag(α) K_{t-1} + (1 - α) k_tᵀ     V_t alike with v_t
        o_t = V_tᵀ softmax(K_t q_t)               y = W_o norm(silu(o))

    Zhang et al. 2024, "Gated Slot Attention for Efficient Linear-Time Sequence Modeling", equations
    5 and 6; q, k and v go through `activation`. The scores are not scaled, as in the published
    code. Causal in every pass.
    """

    kind: Literal["slot_attention"] = "slot_attention"
    n_heads: int = Field(ge=1)
    """Heads H."""
    n_slots: int = Field(64, ge=1)
    """Slots N of each head."""
    normaliser: float = Field(8.0, gt=0)
    """τ: the larger, the slower slots fade, and the less each token writes."""
    activation: Activation = "silu"
    """The activation of q, k, v and of the output before its norm."""
    norm: Annotated[NormKind, Slot("norm")] = RmsNorm()
    """Normalisation of the output of all heads together."""
    chunk: Chunk = 64
    """Tokens that are computed at once in training, a power of two."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input; q, k, v and the output before and after activations; gates, strengths, weights."""
        slots = self.n_heads * self.n_slots
        return float(10 * dim * at.itemsize + 7 * slots * FLOAT32_BYTES)

    def flops(self, dim: int, length: int) -> float:
        """Products of both passes: all pairs of a chunk, those across borders, and states."""
        width = width_of_heads("model.dim", dim, self.n_heads)
        size = min(self.chunk, 1 << (length - 1).bit_length())
        rows = -(-length // size) * size / length
        first = 2 * size * width + (size - 1) * self.n_slots + 4 * self.n_slots * width
        second = linear_attention_flops(
            length,
            n_heads=self.n_heads,
            key_dim=self.n_slots,
            value_dim=width,
            chunk=self.chunk,
            per_feature=True,
        )
        return self.n_heads * first * rows + second

    def build(self, dim: int) -> "SlotAttentionMixer":
        return SlotAttentionMixer(self, dim)


class SlotAttentionMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is the keys and values of the slots."""

    def __init__(self, config: SlotAttention, dim: int) -> None:
        super().__init__()
        self.n_heads, self.n_slots, self.chunk = config.n_heads, config.n_slots, config.chunk
        self.normaliser, self.activation = config.normaliser, config.activation
        self.width = width_of_heads("model.dim", dim, config.n_heads)
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.f = nn.Linear(dim, config.n_heads * config.n_slots, bias=False)
        self.norm = config.norm.build(dim)
        self.o = ResidualLinear(dim, dim, bias=False)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._mix(x, None, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros, in float32, since slots sum many tokens."""
        shape = (batch, self.n_heads, self.n_slots, self.width)
        return {name: mx.zeros(shape, mx.float32) for name in ("k", "v")}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        y, (k, v) = self._mix(x, (state["k"], state["v"]), ctx)
        return y, {"k": k, "v": v}

    def _mix(
        self, x: mx.array, state: tuple[mx.array, mx.array] | None, ctx: Context
    ) -> tuple[mx.array, tuple[mx.array, mx.array]]:
        act = ACTIVATIONS[self.activation]
        q, k, v = (split_heads(act(layer(x)), self.n_heads) for layer in (self.q, self.k, self.v))
        gates = split_heads(self.f(x).astype(mx.float32), self.n_heads)
        decay = nn.log_sigmoid(gates) / self.normaliser
        out, state = slot_attention(
            q,
            k,
            v,
            1 - mx.exp(decay),
            decay,
            scale=1.0,
            state=state,
            chunk=self.chunk,
            **row_facts(ctx, x.shape[1]),
        )
        y = act(out.transpose(0, 2, 1, 3).flatten(-2))
        return self.o(self.norm(y)), state
