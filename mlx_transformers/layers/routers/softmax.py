"""Fields and losses shared by routers whose scores are a softmax over all experts."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.footprint import FLOAT32_BYTES
from ...core.shapes import xD
from ...ops.router_losses import balance_loss, entropy, token_mean, z_loss
from ..linear import matrix
from .routing import Routing, report_load


class SoftmaxRouting(Routing):
    """The fields of routers with scores `softmax(W x + b)`.

    The balance loss is `E · Σ_e f_e · P_e`, 1 when even: f_e the share of choices that name e, P_e
    its mean probability (Fedus et al. 2021, "Switch Transformers", equation 4). The z loss is
    `mean(logsumexp(W x)²)` (Zoph et al. 2022, "ST-MoE", equation 5). Padding doesn't count.
    """

    bias: bool = False
    """Whether a bias per expert is learned (gpt-oss)."""
    jitter: float = Field(0.0, ge=0, lt=1)
    """Half-width ε of the noise of training: the router's input is multiplied by uniform numbers
    between 1 - ε and 1 + ε (Switch, section 2.4)."""
    balance_loss: float = Field(0.0, ge=0)
    """Coefficient of the balance loss."""
    balance_over: Literal["batch", "groups", "layers"] = "batch"
    """Tokens over which f and P are averaged: all of a layer's, those of each group or row, after
    which the losses are averaged (GShard, Switch in flaxformer), or those of all layers together
    (Mixtral in transformers)."""
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the z loss."""

    def saved_bytes(self, n_experts: int) -> float:
        """Bytes of a router, and the entropy of the log."""
        return super().saved_bytes(n_experts) + FLOAT32_BYTES


class SoftmaxRouter(nn.Module):
    """The gate of a router and its losses; subclasses choose the experts."""

    def __init__(self, config: SoftmaxRouting, dim: int, n_experts: int) -> None:
        super().__init__()
        self.config = config
        self.top_k = config.top_k
        self.n_experts = n_experts
        self.gate = nn.Linear(dim, n_experts, bias=config.bias)

    def logits(self, x: xD, ctx: Context) -> mx.array:
        """`W x + b` in float32, of jittered inputs in training."""
        # fp32: a router in half precision flips choices (Switch, section 2.4).
        x = x.astype(mx.float32)
        if self.config.jitter and ctx.training:
            low, high = 1 - self.config.jitter, 1 + self.config.jitter
            key = mx.stop_gradient(ctx.next_key())
            x = x * mx.random.uniform(low, high, x.shape, key=key)
        logits = x @ matrix(self.gate).T.astype(mx.float32)
        return logits + self.gate.bias.astype(mx.float32) if "bias" in self.gate else logits

    def report(self, logits: mx.array, probs: mx.array, named: mx.array, ctx: Context) -> None:
        """Add the losses and statistics of a pass.

        Args:
            logits, probs: `[..., T, E]`.
            named: `[..., T, E]`, the part of a token's choices that names each expert.
            ctx: gets them.
        """
        config, n_experts = self.config, self.n_experts
        valid = ctx.layout.valid
        weights = None if valid is None else valid.reshape(logits.shape[:-1])
        every = None if weights is None else weights.reshape(-1)
        load = token_mean(named.reshape(-1, n_experts), every)
        if config.balance_loss and config.balance_over == "layers":
            means = [config.balance_loss * load, token_mean(probs.reshape(-1, n_experts), every)]
            ctx.collected.add_router_sums(mx.stack([*means, mx.ones_like(load)]))
        elif config.balance_loss:
            if config.balance_over == "groups":
                balance = balance_loss(named, probs, weights)
            else:
                flat = named.reshape(-1, n_experts), probs.reshape(-1, n_experts)
                balance = balance_loss(*flat, every)
            ctx.collected.add_aux("balance", config.balance_loss * balance)
        if config.z_loss:
            ctx.collected.add_aux("router_z", config.z_loss * z_loss(logits, weights))
        report_load(load, ctx)
        entropies = entropy(probs)[..., None].reshape(-1, 1)
        ctx.collected.add_stat("router_entropy", token_mean(entropies, every)[0])
