"""Extractive question answering: where in a text the answer starts and where it ends."""

from typing import Any, ClassVar, Literal

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..ops.xent import cross_entropy
from ..recipe.config import Kind
from .classify import hits
from .mlm import around
from .vocabulary import summed


class Answer(Kind):
    """The mean of `-log p(start)` and `-log p(end)`, each a softmax over the tokens of a row;
    Devlin et al. 2018, section 4.2."""

    kind: Literal["answer"] = "answer"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "types", "valid", "answer", "weights")
    trains: ClassVar[tuple[str, ...]] = ("reads",)
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"head": ("tags",)}
    unit: ClassVar[Unit] = "question"
    answers: ClassVar[str] = "head"
    n_classes: ClassVar[int] = 2
    """How well an answer starts at a token, and how well it ends there."""

    def build(self) -> "AnswerObjective":
        return AnswerObjective()


class AnswerObjective:
    """`(models, batch, ctx) -> Loss` per row, where batch has `tokens`, `types`, `valid` `[B, T]`,
    `answer [B, 2]` and `weights [B]`. The model answers with a head of two classes for a token:
    how well an answer starts there, and how well it ends there."""

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        weights, answer = batch["weights"], batch["answer"]
        around(ctx, batch)
        logits = models["model"](batch["tokens"], ctx)
        logits = mx.where(batch["valid"][..., None], logits.astype(mx.float32), -1e9)
        starts, ends = logits[..., 0], logits[..., 1]
        start, start_nll, _ = cross_entropy(starts, answer[:, 0], weights)
        end, end_nll, _ = cross_entropy(ends, answer[:, 1], weights)
        exact = hits(starts, answer[:, 0]) * hits(ends, answer[:, 1])
        parts = {"loss": 0.5 * (start_nll + end_nll), "accuracy": (exact * weights).sum()}
        return summed(0.5 * (start + end), weights.sum(), parts, ctx)
