"""The sigmoid router, balanced by a bias instead of a loss."""

from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.shapes import xD
from ..hooks import AfterStep
from ..linear import matrix
from ..parameter import Role
from .routing import Routing, load_of, report_load


class Sigmoid(Routing):
    """Each token takes the k experts of highest `sigmoid(W x) + b`; b takes no part in the gates.

    DeepSeek-AI 2024 (DeepSeek-V3), section 2.1.2, equations 13 to 16. b has no gradient: after each
    step it rises for experts with less than their share of the load and falls for others (Wang et
    al. 2024, "Auxiliary-Loss-Free Load Balancing", section 3). With groups, a token takes those
    with the largest sum of their two best scores.
    """

    kind: Literal["sigmoid"] = "sigmoid"
    scores: Literal["sigmoid", "softmax"] = "sigmoid"
    """Scores: a sigmoid per expert, or a softmax over all (ERNIE 4.5)."""
    speed: float = Field(0.0, ge=0)
    """Change of b after a step, the paper's γ; 0 keeps b fixed."""

    def build(self, dim: int, n_experts: int) -> "SigmoidRouter":
        self.check(n_experts)
        return SigmoidRouter(self, dim, n_experts)


class SigmoidRouter(nn.Module, AfterStep):
    """`(x [..., D], ctx) -> gates [..., k] fp32, choice [..., k] integer`."""

    roles: ClassVar[dict[str, Role]] = {"balance": "own"}

    def __init__(self, config: Sigmoid, dim: int, n_experts: int) -> None:
        super().__init__()
        self.config = config
        self.top_k = config.top_k
        self.n_experts = n_experts
        self.gate = nn.Linear(dim, n_experts, bias=False)
        self.balance = mx.zeros((n_experts,))
        self.freeze(keys=["balance"], recurse=False)

    def scores(self, x: xD) -> mx.array:
        """The scores of all experts without the balance, `[..., E]` float32."""
        logits = x.astype(mx.float32) @ matrix(self.gate).T.astype(mx.float32)
        alone = self.config.scores == "sigmoid"
        return mx.sigmoid(logits) if alone else mx.softmax(logits, axis=-1)

    def __call__(self, x: xD, ctx: Context) -> tuple[mx.array, mx.array]:
        scores = self.scores(x)
        choice = self.config.choose(scores + self.balance, by="best_two")
        load = load_of(choice, self.n_experts, ctx.layout.valid)
        report_load(load, ctx)
        if self.config.speed:
            self.report(ctx, "load", load)
        return self.config.gates(scores, choice), choice

    def after_step(self, stats: dict[str, mx.array], finite: mx.array) -> None:
        """Move the balance b against the load of the experts in the step, `stats["load"] [E]`."""
        moved = self.balance + self.config.speed * mx.sign(1.0 / self.n_experts - stats["load"])
        self.balance = mx.where(finite, moved, self.balance)
