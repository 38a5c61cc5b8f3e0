"""Gated DeltaNet: the delta rule on a state that also fades."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn

from ..ffns.mlp import Activation
from ..parameter import Role
from ..step_size import StepSizes, step_sizes
from .delta_heads import DeltaHeads, DeltaMixer


class GatedDeltanet(StepSizes, DeltaHeads):
    """Gated DeltaNet: `S_t = α_t (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ`, `o_t = S_tᵀ q_t / √K`.

        α = exp(-A softplus(W_a x + b))          y = W_o (norm(o) · silu(W_g x))

    One α per head, as in Mamba-2; q, k, v and β as in `deltanet`. Yang, Kautz and Hatamizadeh 2024,
    "Gated Delta Networks: Improving Mamba2 with Delta Rule", equation 10; Qwen3-Next. Causal in
    every pass.
    """

    kind: Literal["gated_deltanet"] = "gated_deltanet"
    gate: Activation | None = "silu"
    """The activation of the output gate; none means no gate."""

    def build(self, dim: int) -> "GatedDeltaMixer":
        return GatedDeltaMixer(self, dim)


class GatedDeltaMixer(DeltaMixer):
    """A `DeltaMixer` with one data-dependent decay per value head."""

    roles: ClassVar[dict[str, Role]] = {"A_log": "own", "dt_bias": "own"}

    def __init__(self, config: GatedDeltanet, dim: int) -> None:
        super().__init__(config, dim)
        self.a = nn.Linear(dim, self.value_heads, bias=False)
        self.dt_bias = config.draw_bias(self.value_heads)
        self.A_log = mx.log(mx.random.uniform(1.0, 16.0, (self.value_heads,)))

    def log_decay(self, x: mx.array) -> mx.array:
        dt = step_sizes(self.a(x), self.dt_bias)
        return (-mx.exp(self.A_log.astype(mx.float32)) * dt).swapaxes(1, 2)
