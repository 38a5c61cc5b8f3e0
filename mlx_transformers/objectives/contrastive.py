"""Contrastive learning of sentence vectors: a text's partner is told from those of the others."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..ops.xent import cross_entropy
from ..recipe.config import Kind
from .classify import hits
from .vocabulary import summed


class Contrastive(Kind):
    """The sum of `-log softmax_j(a_i · b_j / temperature)` at j = i, the b of the other rows being
    the negatives: InfoNCE (van den Oord et al. 2018, equation 4) over a batch, the "multiple
    negatives" of Henderson et al. 2017, section 4.4. Vectors should have length 1.
    """

    kind: Literal["contrastive"] = "contrastive"
    needs: ClassVar[tuple[str, ...]] = ("a", "a_valid", "b", "b_valid", "weights")
    trains: ClassVar[tuple[str, ...]] = ("reads",)
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"pool": ("sentence",)}
    unit: ClassVar[Unit] = "text"
    temperature: float = Field(0.05, gt=0)
    """What cosines are divided by; 0.05 is that of SimCSE (Gao et al. 2021, section 3)."""
    symmetric: bool = False
    """Whether b is also asked for its a, both counting half (CLIP: Radford et al. 2021, figure
    3)."""

    def build(self) -> "ContrastiveObjective":
        return ContrastiveObjective(self)


class ContrastiveObjective:
    """`(models, batch, ctx) -> Loss` per row, where batch has `a`, `a_valid`, `b`, `b_valid`
    `[B, T]` and `weights [B]`. The model answers with its pool, a vector for a text.

    A microbatch has negatives of its own: accumulating several is not one larger batch.
    """

    def __init__(self, config: Contrastive) -> None:
        self.temperature, self.symmetric = config.temperature, config.symmetric

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        a, b = (_vectors(model, batch[name], batch[f"{name}_valid"], ctx) for name in "ab")
        scores = (a @ b.T).astype(mx.float32) / self.temperature
        labels = mx.arange(len(weights))
        total, nll, right = _told(scores, labels, weights)
        if self.symmetric:
            back, back_nll, _ = _told(scores.T, labels, weights)
            total, nll = 0.5 * (total + back), 0.5 * (nll + back_nll)
        return summed(total, weights.sum(), {"loss": nll, "accuracy": right}, ctx)


def _vectors(model: Any, tokens: mx.array, valid: mx.array, ctx: Context) -> mx.array:
    key = ctx.next_key() if ctx.training else None
    own = replace(ctx, layout=replace(ctx.layout, causal=False, valid=valid), key=key)
    return model.pooled(model.encode(tokens, own), own)


def _told(
    scores: mx.array, labels: mx.array, weights: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    """Loss, loss without gradient, and hits of scores `[B, B]`; rows that fill up a batch are
    nobody's negatives."""
    own = labels[:, None] == labels[None, :]
    scores = mx.where((weights[None, :] > 0) | own, scores, -1e9)
    total, nll, _ = cross_entropy(scores, labels, weights)
    return total, nll, (hits(scores, labels) * weights).sum()
