"""The router of Phi-3.5-MoE."""

from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.errors import RecipeError
from ...core.footprint import FLOAT32_BYTES
from ...core.shapes import xD
from ..kinds import RouterKind
from ..linear import matrix
from .routing import load_of, report_load


class SparseMixer(RouterKind):
    """Chooses experts one after the other, each with a softmax over those with scores near it.

    `e_1 = argmax s`, `gate_1 = softmax(s over {e: (s_max - s_e) / max(|s_e|, s_max) ≤ 2 r})[e_1]`
    for `s = W x`; the second likewise among the rest. Liu, Gao & Chen 2023 (SparseMixer),
    as in GRIN (Liu et al. 2024), section 2.2, and Phi-3.5-MoE (Abdin et al. 2024), whose code
    is followed at inference. Training takes the same experts; the paper's sampling of experts, with
    its gradient estimate, is not built.
    """

    kind: Literal["sparse_mixer"] = "sparse_mixer"
    top_k: int = Field(2, ge=1)
    """Experts per token, k."""
    reach: float = Field(0.01, ge=0)
    """r of the formula: how far below the best a near score may be (Phi: router_jitter_noise)."""

    def build(self, dim: int, n_experts: int) -> "SparseMixerRouter":
        if self.top_k > n_experts:
            raise RecipeError(
                f"ffn.router.top_k = {self.top_k} exceeds ffn.n_experts = {n_experts}: a token "
                "can't choose more experts than there are."
            )
        return SparseMixerRouter(self, dim, n_experts)

    def saved_bytes(self, n_experts: int) -> float:
        """Scores, and for every choice the remaining scores and their softmax."""
        return float(FLOAT32_BYTES * n_experts * (1 + 3 * self.top_k))


class SparseMixerRouter(nn.Module):
    """`(x [..., D], ctx) -> gates [..., k] fp32, choice [..., k] integer`."""

    def __init__(self, config: SparseMixer, dim: int, n_experts: int) -> None:
        super().__init__()
        self.top_k, self.reach = config.top_k, config.reach
        self.n_experts = n_experts
        self.gate = nn.Linear(dim, n_experts, bias=False)

    def __call__(self, x: xD, ctx: Context) -> tuple[mx.array, mx.array]:
        scores = x.astype(mx.float32) @ matrix(self.gate).T.astype(mx.float32)
        remaining, gates, choices = scores, [], []
        for _ in range(self.top_k):
            choice = mx.stop_gradient(mx.argmax(remaining, axis=-1, keepdims=True))
            best = mx.stop_gradient(remaining.max(axis=-1, keepdims=True))
            relative_gap = (best - scores) / mx.maximum(mx.abs(scores), best)
            near = mx.where(mx.stop_gradient(relative_gap) > 2 * self.reach, -mx.inf, remaining)
            gates.append(mx.take_along_axis(mx.softmax(near, axis=-1), choice, axis=-1))
            choices.append(choice)
            remaining = mx.put_along_axis(remaining, choice, mx.array(-mx.inf), axis=-1)
        choice = mx.concatenate(choices, axis=-1)
        report_load(load_of(choice, self.n_experts, ctx.layout.valid), ctx)
        return mx.concatenate(gates, axis=-1), choice
