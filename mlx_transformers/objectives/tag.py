"""Tagging: the class of every word."""

from typing import Any, ClassVar, Literal

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..ops.xent import cross_entropy
from ..recipe.config import Kind
from .classify import hits
from .mlm import around
from .vocabulary import summed


class Tag(Kind):
    """The sum of `-log p(class of a word | sentence)`; Devlin et al. 2018, section 5.3."""

    kind: Literal["tag"] = "tag"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "targets", "weights", "valid")
    trains: ClassVar[tuple[str, ...]] = ("reads",)
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"head": ("tags",)}
    unit: ClassVar[Unit] = "word"
    answers: ClassVar[str] = "head"
    """The part of the model whose classes are those of the data."""

    def build(self) -> "TagObjective":
        return TagObjective()


class TagObjective:
    """`(models, batch, ctx) -> Loss` per word, where batch has `tokens`, `targets` (classes),
    `weights` and `valid`, all `[B, T]`. The model answers with its head, `[B, T, n_classes]`."""

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        weights, targets = batch["weights"], batch["targets"]
        around(ctx, batch)
        logits = models["model"](batch["tokens"], ctx)
        n_classes = logits.shape[-1]
        flat = (logits.reshape(-1, n_classes), targets.reshape(-1), weights.reshape(-1))
        total, nll, _ = cross_entropy(*flat)
        parts = {"loss": nll, "accuracy": (hits(logits, targets) * weights).sum()}
        return summed(total, weights.sum(), parts, ctx)
