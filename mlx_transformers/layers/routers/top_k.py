"""The top-k softmax router."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import WIDE
from ...recipe.config import Kind


class TopK(Kind):
    """Each token takes the k experts of highest probability `softmax(W x)`.

    Losses that keep the load even, both added per token: balance `E · Σ_e f_e · P_e` (Fedus et
    al. 2021, "Switch Transformers", equation 4; f_e share of choices, P_e mean probability; 1
    when even) and z `mean(logsumexp(W x)²)` (Zoph et al. 2022, "ST-MoE", equation 5).
    """

    kind: Literal["top_k"] = "top_k"
    top_k: int = Field(ge=1)
    """Experts per token, k."""
    normalize: bool
    """Whether the k gates are scaled to sum to 1 (Mixtral) or keep their probabilities (Switch)."""
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
        if self.top_k > n_experts:
            raise RecipeError(
                f"ffn.router.top_k = {self.top_k} exceeds ffn.n_experts = {n_experts}: a token "
                "can't choose more experts than there are."
            )
        return TopKRouter(self, dim, n_experts)

    def kept(self, n_experts: int) -> float:
        """Bytes per token: logits and probabilities, gates and choices before and after scaling."""
        return float(WIDE * (2 * n_experts + 4 * self.top_k))


class TopKRouter(nn.Module):
    """`(x [N, D], ctx) -> gates [N, k] fp32, choice [N, k] integer`."""

    def __init__(self, config: TopK, dim: int, n_experts: int) -> None:
        super().__init__()
        self.top_k = config.top_k
        self.normalize = config.normalize
        self.balance_loss = config.balance_loss
        self.z_loss = config.z_loss
        self.n_experts = n_experts
        self.gate = nn.Linear(dim, n_experts, bias=False)

    def __call__(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array]:
        # fp32: a router in half precision flips choices (Switch, section 2.4).
        logits = x.astype(mx.float32) @ self.gate.weight.T.astype(mx.float32)
        probs = mx.softmax(logits, axis=-1)
        choice = mx.argpartition(mx.stop_gradient(-probs), self.top_k - 1, axis=-1)
        choice = choice[:, : self.top_k]
        gates = mx.take_along_axis(probs, choice, axis=-1)
        if self.normalize:
            gates = gates / gates.sum(axis=-1, keepdims=True)
        self._losses(logits, probs, choice, ctx)
        return gates, choice

    def _losses(self, logits: mx.array, probs: mx.array, choice: mx.array, ctx: Context) -> None:
        chosen = (choice[..., None] == mx.arange(self.n_experts)).astype(mx.float32)
        load = chosen.sum(axis=(0, 1)) / choice.size
        if self.balance_loss:
            balance = self.n_experts * (load * probs.mean(axis=0)).sum()
            ctx.add_aux("balance", self.balance_loss * balance)
        if self.z_loss:
            z = mx.logsumexp(logits, axis=-1)
            ctx.add_aux("router_z", self.z_loss * (z * z).mean())
        # 1 when every expert has its even share, E when one has all.
        ctx.add_stat("max_load", load.max() * self.n_experts)
