"""Classification of pictures."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from ..ops.xent import cross_entropy
from .chunked_loss import with_aux
from .classify import correct
from .objective import Arrays, ObjectiveKind, PoolingModel


class ClassifyPictures(ObjectiveKind):
    """The sum of `-log p(class | picture)`; Dosovitskiy et al. 2021 (ViT), section 3.1."""

    kind: Literal["classify_pictures"] = "classify_pictures"
    requires: ClassVar[tuple[str, ...]] = ("pixels", "label", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"see"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"pool": ("classifier",)}
    unit: ClassVar[Unit] = "text"
    classes_from: ClassVar[str | None] = "pool"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over the classes."""

    def build(self) -> "ClassifyPicturesObjective":
        return ClassifyPicturesObjective(self)


class ClassifyPicturesObjective:
    """`(models, batch, ctx) -> Loss` per picture, where batch has `pixels [B, ...]`, `label [B]`
    and `weights [B]`. The logits are those of the model's pool."""

    def __init__(self, config: ClassifyPictures) -> None:
        self.label_smoothing = config.label_smoothing

    def __call__(self, models: Mapping[str, PoolingModel], batch: Arrays, ctx: Context) -> Loss:
        model, labels, weights = models["model"], batch["label"], batch["weights"]
        logits = model.pooled(model.features(model.embedded(batch, ctx), ctx), ctx)
        smoothing = self.label_smoothing
        total, nll, _ = cross_entropy(
            logits.astype(mx.float32), labels, weights, label_smoothing=smoothing
        )
        parts = {"loss": nll, "accuracy": (correct(logits, labels) * weights).sum()}
        return with_aux(total, weights.sum(), parts, ctx)
