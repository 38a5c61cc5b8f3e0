"""Masked words and the order of two sentences at once: what BERT and ALBERT are pretrained on."""

from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..ops.xent import cross_entropy
from ..recipe.config import Kind
from .classify import hits
from .mlm import around, masked
from .vocabulary import Vocabulary, summed


class SentenceOrder(Kind):
    """Masked language modelling and a binary question on the pair: the next sentence (Devlin et
    al. 2018, section 3.1) or the order of two (Lan et al. 2019, section 3.1), as the batch is.

    `mean over hidden tokens + order_weight · mean over rows`, both of `-log p`.
    """

    kind: Literal["sentence_order"] = "sentence_order"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "targets", "weights", "valid", "types", "label")
    trains: ClassVar[tuple[str, ...]] = ("reads",)
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"head": ("mlm", "lm"), "pool": ("classifier",)}
    order_weight: float = Field(1.0, gt=0)
    """What the question on the pair counts beside the masked words."""
    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = 512
    """Tokens whose logits are held at once: memory against the number of matmuls; `auto` is what
    the planner finds to fit."""

    def build(self) -> "SentenceOrderObjective":
        return SentenceOrderObjective(self)


class SentenceOrderObjective:
    """`(models, batch, ctx) -> Loss`, where batch is as for masked language modelling, with
    `types [B, T]` and `label [B]`.

    The weight is that of the hidden tokens; a batch's mean over rows counts as often, so that
    accumulation changes it a little, as it does the losses of a router.
    """

    def __init__(self, config: SentenceOrder) -> None:
        self.head, self.order_weight = Vocabulary.of(config), config.order_weight

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        around(ctx, batch)
        x = model.encode(batch["tokens"], ctx)
        logits = model.pooled(x, ctx)
        total, parts = masked(self.head, model, x, batch, ctx)
        # A row that fills up a batch hides nothing.
        rows = weights.any(axis=1).astype(mx.float32)
        weight = weights.sum()
        scale = weight / mx.maximum(rows.sum(), 1)
        order, nll, _ = cross_entropy(logits, batch["label"], rows)
        parts |= {
            "order_loss": nll * scale,
            "accuracy": (hits(logits, batch["label"]) * rows).sum() * scale,
        }
        return summed(total + self.order_weight * order * scale, weight, parts, ctx)
