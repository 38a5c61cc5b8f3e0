"""Knowledge distillation: a small model learns from the data and from a larger model's outputs."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.loss import Loss
from ..core.task import Task
from ..ops.distillation import Divergence, cosine
from ..ops.soft_targets import soft_targets
from .chunked_loss import ChunkedLoss, with_aux
from .mlm import bidirectional
from .objective import Arrays, ChunkedKind, VocabularyModel


class Distill(ChunkedKind):
    """`hard · nll + soft · T² KL(teacher ‖ student) + cosine · (1 - cos(h_teacher, h_student))
    + layers · |difference of layers' outputs|²`, of the next token or, where tokens of a batch are
    masked, of the masked ones.

    Hinton et al. 2015, section 2; Sanh et al. 2019 (DistilBERT), section 2, whose code weighs
    them 2, 5 and 1 at T = 2.
    """

    kind: Literal["distill"] = "distill"
    requires: ClassVar[tuple[str, ...]] = ("tokens",)
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm", "encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"head": ("mlm", "lm")}
    teacher: str
    """The teacher's run, by name or folder; its best checkpoint, with the same tokenizer."""
    temperature: float = Field(2.0, gt=0)
    """T, which softens both distributions."""
    hard: float = Field(1.0, ge=0)
    """Weight of the loss against the tokens."""
    soft: float = Field(1.0, ge=0)
    """Weight of the loss against the teacher's distribution."""
    divergence: Divergence = "forward_kl"
    """The divergence from the teacher: KL(teacher ‖ student); the reverse, which leaves out what
    the student can't express (Gu et al. 2023, MiniLLM); or `jsd`, between them (Agarwal et al.
    2023, GKD)."""
    beta: float = Field(0.5, gt=0, lt=1)
    """Weight of the teacher in the mixture of `jsd`."""
    cosine: float = Field(0.0, ge=0)
    """Weight of the cosine distance of hidden vectors; both models then have one width."""
    layers: float = Field(0.0, ge=0)
    """Weight of the mean squared difference of layers' outputs (TinyBERT, Jiao et al. 2019,
    equation 8, for models of one width): layer m of the student's N against number m · M / N of
    the teacher's M, rounded up; the mean over the student's layers."""

    @property
    def learns_soft_targets(self) -> bool:
        return self.soft > 0

    def frozen(self) -> dict[str, str]:
        return {"teacher": self.teacher}

    def build(self) -> "DistillObjective":
        return DistillObjective(self)


class DistillObjective:
    """`(models, batch, ctx) -> Loss`, where models have a "teacher" too, and batch has
    `tokens [B, T + 1]` and perhaps `weights [B, T]`, or is as for masked language modelling."""

    def __init__(self, config: Distill) -> None:
        self.config, self.head = config, ChunkedLoss.of(config)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        config, student, teacher = self.config, models["model"], models["teacher"]
        tokens, teacher_ctx = batch["tokens"], Context()
        if "targets" in batch:
            targets, weights = batch["targets"], batch["weights"]
            bidirectional(ctx, batch)
            bidirectional(teacher_ctx, batch)
        else:
            tokens, targets = tokens[:, :-1], tokens[:, 1:]
            weights = batch.get("weights", mx.ones(targets.shape))
            if "segments" in batch:
                segments = batch["segments"]
                ctx.layout = teacher_ctx.layout = replace(ctx.layout, segments=segments[:, :-1])
                weights = weights * (segments[:, 1:] == segments[:, :-1])
        inputs = {**batch, "tokens": tokens}
        if config.layers:
            ctx.collected.layers, teacher_ctx.collected.layers = [], []
        h = student.hidden(student.embedded(inputs, ctx), ctx)
        taught = teacher.hidden(teacher.embedded(inputs, teacher_ctx), teacher_ctx)
        taught = mx.stop_gradient(taught)
        hard, parts = self.head(student, h, targets, weights, ctx)
        total = config.hard * hard
        if config.soft:
            flat = [x.reshape(-1, x.shape[-1]) for x in (h, taught)]
            heads = [model.unembedding() for model in (student, teacher)]
            share = mx.stop_gradient(weights.reshape(-1))
            parts["soft"] = soft_targets(
                flat[0],
                heads[0],
                flat[1],
                heads[1],
                share,
                config.temperature,
                self.head.chunk,
                config.divergence,
                config.beta,
            )
            total = total + config.soft * parts["soft"]
        if config.cosine:
            parts["cosine"] = ((1 - _cosine(h, taught)) * weights).sum()
            total = total + config.cosine * parts["cosine"]
        if config.layers:
            pairs = (each.collected.layers or [] for each in (ctx, teacher_ctx))
            parts["layers"] = (_layers(*pairs) * weights).sum()
            total = total + config.layers * parts["layers"]
        return with_aux(total, weights.sum(), parts, ctx)


def _layers(student: list[mx.array], teacher: list[mx.array]) -> mx.array:
    """The mean squared difference `[B, T]` of the student's layers from those that teach them.

    Raises:
        RecipeError: the models don't fit each other.
    """
    n, m = len(student), len(teacher)
    if not 0 < n <= m:
        raise RecipeError(
            f"objective.layers compares the {n} layers of the model with the {m} of its teacher: "
            "take a teacher with as many or more, or set it to 0."
        )
    if (width := student[0].shape[-1]) != (theirs := teacher[0].shape[-1]):
        raise RecipeError(
            f"objective.layers compares vectors of width {width} with the teacher's, which have "
            f"{theirs}: set it to 0, or give both models one width."
        )
    pairs = [(h, teacher[math.ceil(i * m / n) - 1]) for i, h in enumerate(student, 1)]
    squares = [(h - mx.stop_gradient(t)).astype(mx.float32).square().mean(-1) for h, t in pairs]
    return sum(squares[1:], squares[0]) / n


def _cosine(h: mx.array, taught: mx.array) -> mx.array:
    if h.shape[-1] != taught.shape[-1]:
        raise RecipeError(
            f"objective.cosine compares vectors of width {h.shape[-1]} with the teacher's, which "
            f"have {taught.shape[-1]}: set it to 0, or give both models one width."
        )
    return cosine(h, taught)
