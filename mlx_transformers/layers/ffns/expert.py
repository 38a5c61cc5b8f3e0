"""Linear layers stacked over experts, which make many feed-forward networks of one.

An ffn builds its linear layers with a factory and applies them through `apply`, so the same file
computes one dense network or, in a mixture, E experts side by side.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import mlx.core as mx

from ...core.errors import RecipeError
from ...recipe.slot import KINDS
from ..kinds import ExpertKind, FfnKind, LinearFactory
from ..linear import PackedMatrix, WritesResidual
from ..parameter import LINEAR, Role


def apply_linear(layer: Callable[[mx.array], mx.array], x: mx.array) -> mx.array:
    """`layer(x)`: the `Apply` of one dense network."""
    return layer(x)


class ExpertLinear(PackedMatrix):
    """E linear layers: `weight [E, F, D]`, `bias [E, F]`."""

    roles: ClassVar[dict[str, Role]] = LINEAR

    def __init__(self, n_experts: int, dim_in: int, dim_out: int, bias: bool) -> None:
        super().__init__()
        self.weight = mx.zeros((n_experts, dim_out, dim_in))
        if bias:
            self.bias = mx.zeros((n_experts, dim_out))


class ResidualExpertLinear(ExpertLinear, WritesResidual):
    """E linear layers whose outputs are added to the residual stream."""


def expert_factories(n_experts: int) -> tuple[LinearFactory, LinearFactory]:
    """The factories of inner and of residual-output linear layers for `n_experts` experts."""
    return partial(ExpertLinear, n_experts), partial(ResidualExpertLinear, n_experts)


def stackable(kind: FfnKind) -> ExpertKind:
    """The kind of each expert of a mixture.

    Raises:
        RecipeError: it can't be stacked into experts.
    """
    if isinstance(kind, ExpertKind):
        return kind
    able = [f"'{name}'" for name, c in KINDS["ffn"].items() if issubclass(c, ExpertKind)]
    raise RecipeError(
        f"ffn.expert.kind = '{kind.kind}' can't be stacked into experts. "
        f"Use {', '.join(able[:-1])} or {able[-1]}."
    )
