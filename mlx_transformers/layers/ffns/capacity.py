"""The capacity of experts: groups of tokens, slots by a factor, and which tokens come first."""

from typing import Literal

import mlx.core as mx
from pydantic import Field

from ...core.context import Context
from ...core.footprint import ActivationShape
from ...ops.expert_slots import Rounding, Slots, expert_capacity, token_choice
from ...recipe.config import Config


class Capacity(Config):
    """Slots of each expert for a group of T tokens, `factor · T / E`; a full expert drops tokens.

    Fedus et al. 2021 (Switch), equation 3. First choices take their slots before second ones
    (GShard). With `order = "score"`, or more than one choice, a later token can take the slot of an
    earlier one, so that dropping is not causal: by default it happens in training alone.
    """

    factor: float = Field(gt=0)
    """Capacity factor in training: 1 has a slot for each token; for k choices take about k times
    that of one."""
    eval_factor: float | None = Field(None, gt=0)
    """Capacity factor in evaluation and decoding; none means that no token is dropped there."""
    minimum: int = Field(1, ge=1)
    """Fewest slots of an expert (mesh and ST-MoE: 4)."""
    rounding: Rounding = "down"
    """How the slots become an integer: `down` (mesh), `up` (flaxformer), or `even_share`,
    `int(factor · ceil(T / E))` (fairscale)."""
    group_size: int | None = Field(None, ge=1)
    """Tokens of a group; its largest divisor of all tokens counts, as in mesh. None means that each
    row is a group."""
    order: Literal["position", "score"] = "position"
    """Order of the tokens: earlier ones first, or those of the largest gate (batch-prioritised
    routing; Riquelme et al. 2021, section 4.1)."""
    renormalize: bool = False
    """Whether the gates of a token's kept choices are scaled to sum to 1 after others were dropped
    (fairscale, NLLB)."""

    def active(self, ctx: Context) -> float | None:
        """The capacity factor of this pass; None where nothing is dropped."""
        return self.factor if ctx.training else self.eval_factor

    def grouped(self, x: mx.array) -> mx.array:
        """The tokens of `x [B, T, D]` in groups, `[G, tokens, D]`."""
        if self.group_size is None:
            return x
        return x.reshape(group_count(x.shape[0] * x.shape[1], self.group_size), -1, x.shape[-1])

    def fill(
        self, choice: mx.array, gates: mx.array, routed: mx.array, n_experts: int, factor: float
    ) -> Slots:
        """Give the choices of grouped tokens their slots; all arrays are `[G, T, k]`."""
        order = mx.argsort(-mx.stop_gradient(gates), axis=-1)
        choice, routed = (mx.take_along_axis(array, order, axis=-1) for array in (choice, routed))
        first = gates.max(axis=-1) if self.order == "score" else None
        size = self.size(choice.shape[1], n_experts, factor)
        slots = token_choice(choice, routed, n_experts, size, first)
        back = mx.argsort(order, axis=-1)
        return Slots(slots.token, mx.take_along_axis(slots.row, back, axis=-1))

    def size(self, tokens: int, n_experts: int, factor: float) -> int:
        """Slots of an expert for a group of `tokens`."""
        return expert_capacity(
            tokens, n_experts, factor, rounding=self.rounding, minimum=self.minimum
        )

    def rows_per_token(self, at: ActivationShape, n_experts: int) -> float:
        """Slots of all experts per token, in training."""
        tokens = at.length
        if self.group_size is not None:
            tokens = at.tokens // group_count(at.tokens, self.group_size)
        return n_experts * self.size(tokens, n_experts, self.factor) / tokens


def group_count(tokens: int, group_size: int) -> int:
    """The number of equal groups of at most `group_size` tokens, the fewest that divide them."""
    groups = max(1, -(-tokens // group_size))
    while tokens % groups:
        groups += 1
    return groups
