"""Classification: the class of a sequence."""

from typing import Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..ops.xent import cross_entropy
from ..recipe.config import Kind
from .mlm import around
from .vocabulary import summed


class Classify(Kind):
    """The sum of `-log p(class | sequence)`; Devlin et al. 2018, section 4.1."""

    kind: Literal["classify"] = "classify"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "types", "valid", "label", "weights")
    trains: ClassVar[tuple[str, ...]] = ("reads",)
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"pool": ("classifier",)}
    unit: ClassVar[Unit] = "text"
    answers: ClassVar[str] = "pool"
    """The part of the model whose classes are those of the data."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over the classes."""

    def build(self) -> "ClassifyObjective":
        return ClassifyObjective(self)


class ClassifyObjective:
    """`(models, batch, ctx) -> Loss` per row, where batch has `tokens`, `types`, `valid` `[B, T]`,
    `label [B]` and `weights [B]`. The model answers with its pool."""

    def __init__(self, config: Classify) -> None:
        self.label_smoothing = config.label_smoothing

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        around(ctx, batch)
        logits = model.pooled(model.encode(batch["tokens"], ctx), ctx)
        total, nll, _ = cross_entropy(
            logits, batch["label"], weights, label_smoothing=self.label_smoothing
        )
        parts = {"loss": nll, "accuracy": (hits(logits, batch["label"]) * weights).sum()}
        return summed(total, weights.sum(), parts, ctx)


def hits(logits: mx.array, labels: mx.array) -> mx.array:
    """1 where the likeliest of logits `[..., n]` is the label, else 0."""
    return (mx.stop_gradient(logits).argmax(axis=-1) == labels).astype(mx.float32)
