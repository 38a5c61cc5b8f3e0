"""Token classification: the class of every word."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from ..ops.xent import cross_entropy
from .chunked_loss import with_aux
from .classify import correct
from .mlm import bidirectional
from .objective import Arrays, ObjectiveKind, TokenClassifier


class Tag(ObjectiveKind):
    """The sum of `-log p(class of a word | sentence)`; Devlin et al. 2018, section 5.3."""

    kind: Literal["tag"] = "tag"
    requires: ClassVar[tuple[str, ...]] = ("tokens", "targets", "weights", "valid")
    tasks: ClassVar[frozenset[Task]] = frozenset({"encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"head": ("tags",)}
    unit: ClassVar[Unit] = "word"
    classes_from: ClassVar[str | None] = "head"

    def build(self) -> "TagObjective":
        return TagObjective()


class TagObjective:
    """`(models, batch, ctx) -> Loss` per word, where batch has `tokens`, `targets` (classes),
    `weights` and `valid`, all `[B, T]`. The logits are those of the model's head."""

    def __call__(self, models: Mapping[str, TokenClassifier], batch: Arrays, ctx: Context) -> Loss:
        weights, targets = batch["weights"], batch["targets"]
        bidirectional(ctx, batch)
        logits = models["model"](batch["tokens"], ctx)
        n_classes = logits.shape[-1]
        flat = (logits.reshape(-1, n_classes), targets.reshape(-1), weights.reshape(-1))
        total, nll, _ = cross_entropy(*flat)
        parts = {"loss": nll, "accuracy": (correct(logits, targets) * weights).sum()}
        return with_aux(total, weights.sum(), parts, ctx)
