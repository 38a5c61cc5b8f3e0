"""Fields and functions shared by routers that take k of E experts."""

from typing import Literal

import mlx.core as mx
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES
from ...ops.expert_groups import in_best_groups
from ..kinds import RouterKind


class Routing(RouterKind):
    """The fields of every router that takes k of E experts."""

    top_k: int = Field(ge=1)
    """Experts per token, k."""
    normalize: bool
    """Whether the k gates are scaled to sum to 1 (Mixtral) or keep their scores (Switch)."""
    scale: float = Field(1.0, gt=0)
    """Factor of the gates, normalised or not (DeepSeek: routed_scaling_factor)."""
    n_groups: int | None = Field(None, ge=1)
    """Groups of consecutive experts; a token takes its experts from a few groups, so that few
    devices are involved (DeepSeek-V2, section 2.2.2). None means one group."""
    top_groups: int | None = Field(None, ge=1)
    """Number of groups that a token takes experts from."""

    @model_validator(mode="after")
    def _groups_go_together(self) -> "Routing":
        if (self.n_groups is None) != (self.top_groups is None):
            raise ValueError("n_groups and top_groups go together: set both, or neither.")
        if self.n_groups is not None and (self.top_groups or 0) > self.n_groups:
            raise ValueError(f"top_groups = {self.top_groups} exceeds n_groups = {self.n_groups}.")
        return self

    def check(self, n_experts: int) -> None:
        """Raise RecipeError if top_k, groups and the number of experts don't go together."""
        if self.top_k > n_experts:
            raise RecipeError(
                f"ffn.router.top_k = {self.top_k} exceeds ffn.n_experts = {n_experts}: a token "
                "can't choose more experts than there are."
            )
        groups, chosen = self.n_groups or 1, self.top_groups or 1
        if n_experts % groups:
            raise RecipeError(
                f"ffn.router.n_groups = {groups} does not divide ffn.n_experts = {n_experts}."
            )
        if self.top_k > n_experts // groups * chosen:
            raise RecipeError(
                f"ffn.router.top_k = {self.top_k} exceeds the "
                f"{n_experts // groups * chosen} experts of {chosen} groups. Raise top_groups."
            )

    @property
    def constant(self) -> bool:
        """Whether the only gate of a token is scaled to 1, which leaves the router no gradient."""
        return self.top_k == 1 and self.normalize

    def saved_bytes(self, n_experts: int) -> float:
        """Logits and scores, gates and choices before and after scaling."""
        return float(FLOAT32_BYTES * (2 * n_experts + 4 * self.top_k))

    def choose(self, scores: mx.array, by: Literal["best", "best_two"]) -> mx.array:
        """The k experts of each token by `scores [..., E]`, integer `[..., k]`, in no order."""
        scores = self.allowed(scores, by)
        return mx.argpartition(-scores, self.top_k - 1, axis=-1)[..., : self.top_k]

    def allowed(self, scores: mx.array, by: Literal["best", "best_two"]) -> mx.array:
        """The scores without gradient, -inf for experts outside a token's best groups."""
        scores = mx.stop_gradient(scores)
        if self.n_groups is not None and self.top_groups is not None:
            flat = scores.reshape(-1, scores.shape[-1])
            inside = in_best_groups(flat, self.n_groups, self.top_groups, by)
            scores = mx.where(inside.reshape(scores.shape), scores, -mx.inf)
        return scores

    def gates(self, scores: mx.array, choice: mx.array) -> mx.array:
        """The gates `[..., k]` of chosen experts, from scores `[..., E]`."""
        gates = mx.take_along_axis(scores, choice, axis=-1)
        if self.normalize:
            # the k scores of a sigmoid may all be next to zero
            gates = gates / (gates.sum(axis=-1, keepdims=True) + 1e-20)
        return gates if self.scale == 1.0 else gates * self.scale


def load_of(choice: mx.array, n_experts: int, valid: mx.array | None) -> mx.array:
    """The share `[E]` of all choices `[..., k]` that each expert has.

    Args:
        choice: experts of each token.
        n_experts: E.
        valid: whether a token is not padding, of any shape; None: no padding.
    """
    chosen = (choice[..., None] == mx.arange(n_experts)).astype(mx.float32)
    if valid is None:
        return chosen.reshape(-1, n_experts).sum(axis=0) / choice.size
    by_token = chosen.reshape(-1, choice.shape[-1], n_experts).sum(axis=1)
    real = valid.reshape(-1, 1).astype(mx.float32)
    return (by_token * real).sum(axis=0) / mx.maximum(choice.shape[-1] * real.sum(), 1)


def report_load(load: mx.array, ctx: Context) -> None:
    """Record the load of the experts and the largest one, from shares `load [E]`.

    1 is an even share; the largest is E when one expert has all tokens.
    """
    ctx.collected.add_stat("max_load", load.max() * load.size)
    ctx.collected.add_stat("expert_load", load * load.size)
