"""Experts that choose their tokens."""

from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES, ActivationShape
from ...core.shapes import BTD
from ...ops.expert_slots import Rounding, expert_capacity, expert_choice
from ...ops.router_losses import entropy
from ...recipe.slot import Slot
from ..kinds import FfnKind
from ..linear import expert_rows, matrix
from .expert import expert_factories, stackable


class ExpertChoice(FfnKind):
    """A mixture whose experts take the tokens of a row that suit them best.

    `S = softmax(W x)` over experts; expert e takes its `C = factor · T / E` tokens of largest S;
    `y = Σ_{e that took x} S_e · ffn_e(x)`. Zhou et al. 2022, equations 1 to 3. The load is even by
    construction, so there is no balance loss; a token has from 0 to E experts. Later tokens compete
    with earlier ones: for encoders.
    """

    kind: Literal["expert_choice"] = "expert_choice"
    causal: ClassVar[bool] = False
    n_experts: int = Field(ge=1)
    """Experts E."""
    factor: float = Field(2.0, gt=0)
    """Capacity factor, the mean number of experts of a token; at most E."""
    rounding: Rounding = "down"
    """How the tokens of an expert become an integer, at least 1: `down`, `up`, or `even_share`,
    `int(factor · ceil(T / E))`."""
    expert: Annotated[FfnKind, Slot("ffn")]
    """The network of each expert: an `mlp`, a `glu` or a `clamped_glu`."""

    def build(self, dim: int) -> "ExpertChoiceFfn":
        if self.factor > self.n_experts:
            raise RecipeError(
                f"ffn.factor = {self.factor} exceeds ffn.n_experts = {self.n_experts}: an expert "
                "can't take more tokens than there are. Lower factor."
            )
        return ExpertChoiceFfn(self, dim)

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Input, scores, the experts on their rows, and their outputs."""
        rows = self.n_experts * self.capacity(at.length) / at.length
        scores = 3 * self.n_experts * FLOAT32_BYTES
        return dim * at.itemsize * (1 + rows) + scores + rows * self.expert.saved_bytes(dim, at)

    def capacity(self, length: int) -> int:
        """Tokens that an expert takes of a row of `length`."""
        size = expert_capacity(length, self.n_experts, self.factor, rounding=self.rounding)
        return min(size, length)


class ExpertChoiceFfn(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]`; experts choose among the tokens of each row."""

    def __init__(self, config: ExpertChoice, dim: int) -> None:
        super().__init__()
        self.config, self.n_experts = config, config.n_experts
        self.gate = nn.Linear(dim, config.n_experts, bias=False)
        self.experts = stackable(config.expert).build_experts(
            dim, *expert_factories(config.n_experts)
        )

    def idle_parameters(self) -> int:
        """Parameters of the experts that a token doesn't meet, on average."""
        stacked = sum(value.size for _, value in tree_flatten(self.experts.parameters()))
        return stacked - round(stacked * self.config.factor / self.n_experts)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        logits = x.astype(mx.float32) @ matrix(self.gate).T.astype(mx.float32)
        scores = probs = mx.softmax(logits, axis=-1)
        if ctx.layout.valid is not None:
            scores = mx.where(ctx.layout.valid[..., None], probs, 0.0)
        slots = expert_choice(scores, self.config.capacity(x.shape[1]))

        def apply(layer: Any, h: mx.array) -> mx.array:
            return expert_rows(layer, h, slots.linear)

        y = slots.combine(self.experts(slots.gather(x), ctx, apply), scores)
        missed = (~slots.kept().any(axis=-1)).astype(mx.float32)
        ctx.collected.add_stat("without_expert", missed.mean())
        ctx.collected.add_stat("router_entropy", entropy(probs).mean())
        return y
