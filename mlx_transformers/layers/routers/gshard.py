"""The router of GShard and ST-MoE: later choices are routed by a policy."""

from typing import Literal

import mlx.core as mx
from pydantic import Field

from ...core.context import Context
from ...core.shapes import xD
from ...ops.router_losses import marked
from ...ops.second_choices import Policy, keep_choices
from .softmax import SoftmaxRouter, SoftmaxRouting


class GShard(SoftmaxRouting):
    """Each token takes its best expert, and further ones by a policy.

    Lepikhin et al. 2020 (GShard), algorithm 1, also GLaM (Du et al. 2022) with `all`; Zoph et al.
    2022 (ST-MoE) with more than two choices. A choice that isn't routed has gate 0 and takes no
    slot. The balance loss counts first choices alone. Outside training `random` keeps every choice.
    """

    kind: Literal["gshard"] = "gshard"
    top_k: int = Field(2, ge=2)
    """Most experts of a token, k."""
    policy: Policy = "random"
    """Policy for choices after the first: route `all`, `none`, those whose gate is above the
    threshold t (`threshold`), or each with probability min(1, gate / t) (`random`)."""
    threshold: float = Field(0.2, gt=0, le=1)
    """t of the policy: 0.2 in mesh and ST-MoE, 0.5 in GShard's algorithm 1."""

    def build(self, dim: int, n_experts: int) -> "GShardRouter":
        self.check(n_experts)
        return GShardRouter(self, dim, n_experts)


class GShardRouter(SoftmaxRouter):
    """`(x [..., D], ctx) -> gates [..., k] fp32, choice [..., k] integer`, the best first."""

    config: GShard

    def __call__(self, x: xD, ctx: Context) -> tuple[mx.array, mx.array]:
        config = self.config
        logits = self.logits(x, ctx)
        probs = mx.softmax(logits, axis=-1)
        choice = mx.argsort(-config.allowed(probs, by="best"), axis=-1)[..., : self.top_k]
        gates = config.gates(probs, choice)
        uniform = None
        if config.policy == "random" and ctx.training:
            uniform = mx.random.uniform(shape=gates.shape, key=mx.stop_gradient(ctx.next_key()))
        ranked = mx.stop_gradient(gates) / config.scale
        gates = mx.where(keep_choices(ranked, config.policy, config.threshold, uniform), gates, 0.0)
        self.report(logits, probs, marked(choice[..., :1], self.n_experts), ctx)
        return gates, choice
