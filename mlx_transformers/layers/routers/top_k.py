"""The top-k softmax router."""

from typing import Literal

import mlx.core as mx

from ...core.context import Context
from ...core.shapes import xD
from ...ops.router_losses import marked
from .softmax import SoftmaxRouter, SoftmaxRouting


class TopK(SoftmaxRouting):
    """Each token takes the k experts of highest probability `softmax(W x + b)`.

    With k = 1 and gates that keep their probability this is Switch (Fedus et al. 2021, section
    2.1); with k = 2 and gates that sum to 1, Mixtral. With groups of experts, a token takes those
    with the best single expert (DeepSeek-V2, section 2.2.2).
    """

    kind: Literal["top_k"] = "top_k"

    def build(self, dim: int, n_experts: int) -> "TopKRouter":
        self.check(n_experts)
        return TopKRouter(self, dim, n_experts)


class TopKRouter(SoftmaxRouter):
    """`(x [..., D], ctx) -> gates [..., k] fp32, choice [..., k] integer`."""

    def __call__(self, x: xD, ctx: Context) -> tuple[mx.array, mx.array]:
        logits = self.logits(x, ctx)
        probs = mx.softmax(logits, axis=-1)
        choice = self.config.choose(probs, by="best")
        self.report(logits, probs, marked(choice, self.n_experts) / self.top_k, ctx)
        return self.config.gates(probs, choice), choice
