"""The top-k softmax router."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.shapes import ND
from ..linear import matrix
from .routing import Routing, load_of


class TopK(Routing):
    """Each token takes the k experts of highest probability `softmax(W x + b)`.

    Auxiliary losses that keep the load even, added per token: balance `E · Σ_e f_e · P_e` (Fedus et
    al. 2021, "Switch Transformers", equation 4; f_e share of choices, P_e mean probability; 1
    when even) and z `mean(logsumexp(W x)²)` (Zoph et al. 2022, "ST-MoE", equation 5). With
    groups, a token takes those with the best single expert (DeepSeek-V2, section 2.2.2).
    """

    kind: Literal["top_k"] = "top_k"
    bias: bool = False
    """Whether a bias per expert is learned (gpt-oss)."""
    balance_loss: float = Field(0.0, ge=0)
    """Coefficient of the balance loss."""
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the z loss."""

    @model_validator(mode="after")
    def _router_learns(self) -> "TopK":
        if self.top_k == 1 and self.normalize:
            raise ValueError(
                "top_k = 1 with normalize = true makes every gate 1, so the router would learn "
                "nothing from the task. Set normalize = false, as Switch does."
            )
        return self

    def build(self, dim: int, n_experts: int) -> "TopKRouter":
        self.check(n_experts)
        return TopKRouter(self, dim, n_experts)


class TopKRouter(nn.Module):
    """`(x [N, D], ctx) -> gates [N, k] fp32, choice [N, k] integer`."""

    def __init__(self, config: TopK, dim: int, n_experts: int) -> None:
        super().__init__()
        self.config = config
        self.top_k = config.top_k
        self.n_experts = n_experts
        self.gate = nn.Linear(dim, n_experts, bias=config.bias)

    def __call__(self, x: ND, ctx: Context) -> tuple[mx.array, mx.array]:
        # fp32: a router in half precision flips choices (Switch, section 2.4).
        logits = x.astype(mx.float32) @ matrix(self.gate).T.astype(mx.float32)
        if "bias" in self.gate:
            logits = logits + self.gate.bias.astype(mx.float32)
        probs = mx.softmax(logits, axis=-1)
        choice = self.config.choose(probs, by="best")
        self._losses(logits, probs, choice, ctx)
        return self.config.gates(probs, choice), choice

    def _losses(self, logits: mx.array, probs: mx.array, choice: mx.array, ctx: Context) -> None:
        load = load_of(choice, self.n_experts)
        if self.config.balance_loss:
            balance = self.n_experts * (load * probs.mean(axis=0)).sum()
            ctx.collected.add_aux("balance", self.config.balance_loss * balance)
        if self.config.z_loss:
            z = mx.logsumexp(logits, axis=-1)
            ctx.collected.add_aux("router_z", self.config.z_loss * (z * z).mean())
        # 1 when every expert has its even share, E when one has all.
        ctx.collected.add_stat("max_load", load.max() * self.n_experts)
