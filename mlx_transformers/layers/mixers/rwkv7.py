"""RWKV-7's time mixing."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...ops.generalized_delta_rule import generalized_delta_rule, generalized_delta_rule_flops
from ...ops.norms import l2_norm
from ..head_norm import HeadNorm
from ..kinds import MixerKind
from ..linear import ResidualLinear
from ..low_rank import LowRank
from ..parameter import Role
from .head_states import Chunk, heads_of_width, row_facts, split_heads
from .shifted_state import ShiftedStateMixer

MIXED = ("r", "w", "k", "v", "a", "g")
"""The shifted inputs of receptance, decay, key, value, rate and gate."""
FIRST_VALUES = "values of the first rwkv7 layer"
"""The name under which the first layer leaves its values for the later ones."""


class Rwkv7(MixerKind):
    """RWKV-7's time mixing: a matrix per head that each token fades, corrects and adds to.

        g_t = -e^{-1/2} σ(w_0 + tanh(x^w A) B)          a_t = σ(a_0 + x^a C D)
        κ = k / |k| of k · k_k in each head             k̃ = k (1 + (a - 1) k_a)
        S_t = (diag(exp g_t) - (a κ) κᵀ) S_{t-1} + k̃_t v_tᵀ
        y_t = W_o ((norm(S_tᵀ r_t) + (r_t · u k̃_t) v_t) · σ(x^g E) F)

    Peng et al. 2025, "RWKV-7 Goose with Expressive Dynamic State Evolution", section 4. Layers with
    `value_residual` mix their values with those of the first: `v + (v_first - v) σ(v_0 + x^v G H)`.
    """

    kind: Literal["rwkv7"] = "rwkv7"
    head_dim: int = Field(64, ge=1)
    """Width of a head."""
    decay_rank: int = Field(64, ge=1)
    """Rank of the decay's A and B."""
    rate_rank: int = Field(64, ge=1)
    """Rank of the in-context learning rate's C and D."""
    gate_rank: int = Field(128, ge=1)
    """Rank of the gate's E and F."""
    value_rank: int = Field(32, ge=1)
    """Rank of the value residual's G and H."""
    value_residual: bool = False
    """Whether values are mixed with those of the first RWKV-7 layer: set it in all others."""
    chunk: Chunk = 32
    """Tokens that are computed at once in training, a power of two."""

    @property
    def leaves_array(self) -> str | None:
        """Its values, where they are mixed with none."""
        return None if self.value_residual else FIRST_VALUES

    @property
    def reads_array(self) -> str | None:
        """The values of the first layer."""
        return FIRST_VALUES if self.value_residual else None

    def build(self, dim: int) -> "Rwkv7Mixer":
        return Rwkv7Mixer(self, dim, heads_of_width(dim, self.head_dim))

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Shifted inputs, projections, the low ranks, and what the output reads."""
        ranks = self.decay_rank + self.rate_rank + self.gate_rank
        ranks += self.value_rank if self.value_residual else 0
        return (22 * dim + 2 * ranks) * at.itemsize + 3 * dim * FLOAT32_BYTES

    def flops(self, dim: int, length: int) -> float:
        """Products within chunks and with states."""
        heads = heads_of_width(dim, self.head_dim)
        return generalized_delta_rule_flops(length, heads, self.head_dim, self.chunk)


class Rwkv7Mixer(ShiftedStateMixer):
    """`(x [B, T, D], ctx) -> [B, T, D]`; the state is the last input and a matrix per head."""

    roles: ClassVar[dict[str, Role]] = {
        **{f"mix_{name}": "vector" for name in MIXED},
        "k_scale": "vector",
        "k_rate": "vector",
        "bonus": "own",
    }

    def __init__(self, config: Rwkv7, dim: int, n_heads: int) -> None:
        super().__init__(dim, n_heads)
        self.chunk = config.chunk
        share = 1 - mx.arange(dim) / dim
        for name in MIXED:
            self[f"mix_{name}"] = share
        decay = 5 * (mx.arange(dim) / max(dim - 1, 1)) ** 0.85 - 5.5
        zero = mx.zeros((dim,))
        self.decay = LowRank(dim, config.decay_rank, mx.tanh, decay)
        self.rate = LowRank(dim, config.rate_rank, None, zero)
        self.gate = LowRank(dim, config.gate_rank, mx.sigmoid, None)
        if config.value_residual:
            self.value = LowRank(dim, config.value_rank, None, zero + 1.0)
        self.r, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.k_scale, self.k_rate = zero + 0.85, zero + 1.0
        self.bonus = mx.zeros((n_heads, dim // n_heads))
        self.norm = HeadNorm(dim, 64e-5, bias=True)
        self.o = ResidualLinear(dim, dim, bias=False)

    def _mix(
        self, taps: list[mx.array], state: mx.array | None, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        before, x = taps
        delta = before - x
        mixed = {name: x + delta * self[f"mix_{name}"] for name in MIXED}
        r, k, v = self.r(mixed["r"]), self.k(mixed["k"]), self.v(mixed["v"])
        v = self._with_first_values(v, mixed["v"], ctx)
        decay = -math.exp(-0.5) * mx.sigmoid(self.decay(mixed["w"]).astype(mx.float32))
        rate = mx.sigmoid(self.rate(mixed["a"]))
        scaled, k = k * self.k_scale, k * (1 + (rate - 1) * self.k_rate)
        arrays = (r, decay, k, v, scaled, rate)
        r, decay, k, v, scaled, rate = (split_heads(array, self.n_heads) for array in arrays)
        key = l2_norm(scaled, 1e-24)
        facts = row_facts(ctx, v.shape[2])
        out, state = generalized_delta_rule(
            r, decay, k, v, -key, key * rate, state=state, chunk=self.chunk, **facts
        )
        current = (r * k * self.bonus[:, None].astype(r.dtype)).sum(axis=-1, keepdims=True) * v
        y = self.norm(out) + current.transpose(0, 2, 1, 3).flatten(-2)
        return self.o(y * self.gate(mixed["g"])), state

    def _with_first_values(self, v: mx.array, mixed: mx.array, ctx: Context) -> mx.array:
        """The values, mixed with those of the first layer, or left for the others."""
        if "value" not in self:
            ctx.earlier[FIRST_VALUES] = v
            return v
        return v + (ctx.earlier[FIRST_VALUES] - v) * mx.sigmoid(self.value(mixed))
