"""BERT's and ALBERT's pretraining: masked language modelling, and NSP or SOP."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..core.task import Task
from ..ops.xent import cross_entropy
from .chunked_loss import ChunkedLoss, with_aux
from .classify import correct
from .mlm import bidirectional, masked
from .objective import Arrays, ChunkedKind, PoolingModel, VocabularyModel


class SentenceOrder(ChunkedKind):
    """Masked language modelling and a binary classification of the sentence pair: next sentence
    prediction (Devlin et al. 2018, section 3.1) or sentence order prediction (Lan et al. 2019,
    section 3.1), as `data.batch` makes them.

    `mean over masked tokens + order_weight · mean over rows`, both of `-log p`.
    """

    kind: Literal["sentence_order"] = "sentence_order"
    requires: ClassVar[tuple[str, ...]] = (
        *("tokens", "targets", "weights", "valid"),
        *("types", "label"),
    )
    tasks: ClassVar[frozenset[Task]] = frozenset({"encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "head": ("mlm", "lm"),
        "pool": ("classifier",),
    }
    order_weight: float = Field(1.0, gt=0)
    """Weight of the sentence pair's loss relative to that of the masked tokens."""

    @property
    def couples_rows(self) -> str:
        return (
            "The mean loss of the sentence pairs is weighted by the masked tokens of their "
            "microbatch."
        )

    def build(self) -> "SentenceOrderObjective":
        return SentenceOrderObjective(self)


class SentenceModel(VocabularyModel, PoolingModel, Protocol):
    """An encoder with a head over the vocabulary and a pool."""


class SentenceOrderObjective:
    """`(models, batch, ctx) -> Loss`, where batch is as for masked language modelling, with
    `types [B, T]` and `label [B]`.

    The weight is the number of masked tokens; the mean over rows is multiplied by it, so gradient
    accumulation changes it slightly, as it does a router's auxiliary losses.
    """

    def __init__(self, config: SentenceOrder) -> None:
        self.head, self.order_weight = ChunkedLoss.of(config), config.order_weight

    def __call__(self, models: Mapping[str, SentenceModel], batch: Arrays, ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        bidirectional(ctx, batch)
        x = model.features(model.embedded(batch, ctx), ctx)
        logits = model.pooled(x, ctx)
        total, parts = masked(self.head, model, x, batch, ctx)
        # A filler row has no masked tokens.
        rows = weights.any(axis=1).astype(mx.float32)
        weight = weights.sum()
        scale = weight / mx.maximum(rows.sum(), 1)
        order, nll, _ = cross_entropy(logits, batch["label"], rows)
        parts |= {
            "order_loss": nll * scale,
            "accuracy": (correct(logits, batch["label"]) * rows).sum() * scale,
        }
        return with_aux(total + self.order_weight * order * scale, weight, parts, ctx)
