"""How one feed-forward network becomes many: linear maps stacked over experts.

An ffn makes its maps with a factory and applies them through `apply`, so the same file computes
one dense network or, in a mixture, E experts side by side.
"""

from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..kinds import LinearFactory


def apply_linear(layer: Any, x: mx.array) -> mx.array:
    """`layer(x)`: the `Apply` of one dense network."""
    return layer(x)


class ExpertLinear(nn.Module):
    """E linear maps: `weight [E, F, D]`, `bias [E, F]`."""

    def __init__(
        self, n_experts: int, residual_output: bool, dim_in: int, dim_out: int, bias: bool
    ) -> None:
        super().__init__()
        self.residual_output = residual_output
        self.weight = mx.zeros((n_experts, dim_out, dim_in))
        if bias:
            self.bias = mx.zeros((n_experts, dim_out))


def expert_factories(n_experts: int) -> tuple[LinearFactory, LinearFactory]:
    """The factories of inner and of residual-output maps for `n_experts` experts."""
    return partial(ExpertLinear, n_experts, False), partial(ExpertLinear, n_experts, True)
