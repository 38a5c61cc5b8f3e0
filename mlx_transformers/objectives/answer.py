"""Extractive question answering: where in a text the answer starts and where it ends."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from ..ops.xent import cross_entropy
from .chunked_loss import with_aux
from .classify import correct
from .mlm import bidirectional
from .objective import Arrays, ObjectiveKind, TokenClassifier


class Answer(ObjectiveKind):
    """The mean of `-log p(start)` and `-log p(end)`, each a softmax over the tokens of a row;
    Devlin et al. 2018, section 4.2."""

    kind: Literal["answer"] = "answer"
    requires: ClassVar[tuple[str, ...]] = ("tokens", "types", "valid", "answer", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"head": ("tags",)}
    unit: ClassVar[Unit] = "question"
    classes_from: ClassVar[str | None] = "head"
    n_classes: ClassVar[int | None] = 2
    """Logits of a token: of being the start of the answer, and its end."""

    def build(self) -> "AnswerObjective":
        return AnswerObjective()


class AnswerObjective:
    """`(models, batch, ctx) -> Loss` per row, where batch has `tokens`, `types`, `valid` `[B, T]`,
    `answer [B, 2]` and `weights [B]`. The model's head has two logits per token: of the answer's
    start, and of its end."""

    def __call__(self, models: Mapping[str, TokenClassifier], batch: Arrays, ctx: Context) -> Loss:
        weights, answer = batch["weights"], batch["answer"]
        bidirectional(ctx, batch)
        logits = models["model"](batch["tokens"], ctx)
        logits = mx.where(batch["valid"][..., None], logits.astype(mx.float32), -1e9)
        starts, ends = logits[..., 0], logits[..., 1]
        start, start_nll, _ = cross_entropy(starts, answer[:, 0], weights)
        end, end_nll, _ = cross_entropy(ends, answer[:, 1], weights)
        exact = correct(starts, answer[:, 0]) * correct(ends, answer[:, 1])
        parts = {"loss": 0.5 * (start_nll + end_nll), "accuracy": (exact * weights).sum()}
        return with_aux(0.5 * (start + end), weights.sum(), parts, ctx)
