"""Gated DeltaNet: the delta rule on a state that also fades."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ..ffns.mlp import Activation
from ..parameter import Role
from ..step_size import StepSizes, step_sizes
from .delta_heads import DeltaHeads, DeltaMixer
from .head_states import split_heads


class GatedDeltanet(StepSizes, DeltaHeads):
    """Gated DeltaNet: `S_t = α_t (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ`, `o_t = S_tᵀ q_t / √K`.

        α = exp(-A softplus(W_a x + b))          y = W_o (norm(o) · silu(W_g x))

    One α per head, as in Mamba-2; q, k, v and β as in `deltanet`. Yang, Kautz and Hatamizadeh 2024,
    "Gated Delta Networks: Improving Mamba2 with Delta Rule", equation 10; Qwen3-Next. With an α per
    feature of the keys, from a map of low rank, it is Kimi Delta Attention (Kimi Team 2025, "Kimi
    Linear", section 3). Causal in every pass.
    """

    kind: Literal["gated_deltanet"] = "gated_deltanet"
    gate: Activation | None = "silu"
    """The activation of the output gate; none means no gate."""
    decay: Literal["head", "feature"] = "head"
    """Whether each head has one decay, or each feature of its keys has its own."""
    gate_rank: int | None = Field(None, ge=1)
    """Rank of the map from the input to the decays of features; none means the width of a value
    head."""

    @model_validator(mode="after")
    def _rank_has_a_use(self) -> "GatedDeltanet":
        if self.decay == "head" and self.gate_rank is not None:
            raise ValueError("gate_rank goes with decay = 'feature': unset it, or change decay.")
        return self

    @property
    def decays_features(self) -> bool:
        return self.decay == "feature"

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes of the delta rule, and the map to the decays of features."""
        saved = super().saved_bytes(dim, at)
        if self.decays_features:
            key_dim, value_dim = self.widths(dim)
            saved += (self.gate_rank or value_dim) * at.itemsize
            saved += 4.0 * self.value_heads * key_dim * FLOAT32_BYTES
        return saved

    def build(self, dim: int) -> "GatedDeltaMixer":
        return GatedDeltaMixer(self, dim)


class GatedDeltaMixer(DeltaMixer):
    """A `DeltaMixer` with decays computed from the input, per head or per feature."""

    roles: ClassVar[dict[str, Role]] = {"A_log": "own", "dt_bias": "own"}

    def __init__(self, config: GatedDeltanet, dim: int) -> None:
        super().__init__(config, dim)
        self.per_feature = config.decays_features
        rates, rank = self.value_heads, dim
        if self.per_feature:
            rates, rank = rates * self.key_dim, config.gate_rank or self.value_dim
            self.down = nn.Linear(dim, rank, bias=False)
        self.a = nn.Linear(rank, rates, bias=False)
        self.dt_bias = config.draw_bias(rates)
        self.A_log = mx.log(mx.random.uniform(1.0, 16.0, (self.value_heads,)))

    def log_decay(self, x: mx.array) -> mx.array:
        dt = step_sizes(self.a(self.down(x) if self.per_feature else x), self.dt_bias)
        rate = mx.exp(self.A_log.astype(mx.float32))
        decay = -rate[:, None, None] * split_heads(dt, self.value_heads)
        return decay if self.per_feature else decay[..., 0]
