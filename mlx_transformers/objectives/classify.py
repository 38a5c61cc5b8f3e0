"""Classification: the class of a sequence."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from ..ops.xent import cross_entropy
from .chunked_loss import with_aux
from .mlm import bidirectional
from .objective import Arrays, ObjectiveKind, PoolingModel


class Classify(ObjectiveKind):
    """The sum of `-log p(class | sequence)`; Devlin et al. 2018, section 4.1."""

    kind: Literal["classify"] = "classify"
    requires: ClassVar[tuple[str, ...]] = ("tokens", "types", "valid", "label", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"pool": ("classifier",)}
    unit: ClassVar[Unit] = "text"
    classes_from: ClassVar[str | None] = "pool"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over the classes."""

    def build(self) -> "ClassifyObjective":
        return ClassifyObjective(self)


class ClassifyObjective:
    """`(models, batch, ctx) -> Loss` per row, where batch has `tokens`, `types`, `valid` `[B, T]`,
    `label [B]` and `weights [B]`. The logits are those of the model's pool."""

    def __init__(self, config: Classify) -> None:
        self.label_smoothing = config.label_smoothing

    def __call__(self, models: Mapping[str, PoolingModel], batch: Arrays, ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        bidirectional(ctx, batch)
        logits = model.pooled(model.features(model.embedded(batch, ctx), ctx), ctx)
        total, nll, _ = cross_entropy(
            logits, batch["label"], weights, label_smoothing=self.label_smoothing
        )
        parts = {"loss": nll, "accuracy": (correct(logits, batch["label"]) * weights).sum()}
        return with_aux(total, weights.sum(), parts, ctx)


def correct(logits: mx.array, labels: mx.array) -> mx.array:
    """1 where the argmax of logits `[..., n]` is the label, else 0, `[...]`."""
    return (mx.stop_gradient(logits).argmax(axis=-1) == labels).astype(mx.float32)
