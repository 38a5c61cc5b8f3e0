"""Distillation: a small model learns from the data and from what a larger one says of it."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.loss import Loss
from ..ops.soft_targets import Head, soft_targets
from ..recipe.config import Kind
from .mlm import around
from .vocabulary import Vocabulary, summed


class Distill(Kind):
    """`hard · nll + soft · T² KL(teacher ‖ student) + cosine · (1 - cos(h_teacher, h_student))`, of
    the next token or, where a batch hides tokens, of the hidden ones.

    Hinton et al. 2015, section 2; Sanh et al. 2019 (DistilBERT), section 2, whose code weighs
    them 2, 5 and 1 at T = 2.
    """

    kind: Literal["distill"] = "distill"
    needs: ClassVar[tuple[str, ...]] = ("tokens",)
    trains: ClassVar[tuple[str, ...]] = ("continues", "reads")
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"head": ("mlm", "lm")}
    teacher: str
    """The run that teaches, by name or folder; its best checkpoint, with the same tokenizer."""
    temperature: float = Field(2.0, gt=0)
    """T, which softens both distributions."""
    hard: float = Field(1.0, ge=0)
    """What the tokens themselves count."""
    soft: float = Field(1.0, ge=0)
    """What the teacher's distribution counts."""
    cosine: float = Field(0.0, ge=0)
    """What the direction of the hidden vectors counts; both models then have one width."""
    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = 512
    """Tokens whose logits are held at once: memory against the number of matmuls; `auto` is what
    the planner finds to fit."""

    def frozen(self) -> dict[str, str]:
        """The runs whose models are read but not trained, by role."""
        return {"teacher": self.teacher}

    def build(self) -> "DistillObjective":
        return DistillObjective(self)


class DistillObjective:
    """`(models, batch, ctx) -> Loss`, where models have a "teacher" too, and batch has
    `tokens [B, T + 1]` and perhaps `weights [B, T]`, or is as for masked language modelling."""

    def __init__(self, config: Distill) -> None:
        self.config, self.head = config, Vocabulary.of(config)

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        config, student, teacher = self.config, models["model"], models["teacher"]
        tokens, watched = batch["tokens"], Context()
        if "targets" in batch:
            targets, weights = batch["targets"], batch["weights"]
            around(ctx, batch)
            around(watched, batch)
        else:
            tokens, targets = tokens[:, :-1], tokens[:, 1:]
            weights = batch.get("weights", mx.ones(targets.shape))
            if "segments" in batch:
                segments = batch["segments"]
                ctx.layout = watched.layout = replace(ctx.layout, segments=segments[:, :-1])
                weights = weights * (segments[:, 1:] == segments[:, :-1])
        h = student.hidden(tokens, ctx)
        taught = mx.stop_gradient(teacher.hidden(tokens, watched))
        hard, parts = self.head(student, h, targets, weights, ctx)
        total = config.hard * hard
        if config.soft:
            flat = [x.reshape(-1, x.shape[-1]) for x in (h, taught)]
            heads = [_head(model) for model in (student, teacher)]
            share = mx.stop_gradient(weights.reshape(-1))
            parts["soft"] = soft_targets(
                flat[0], heads[0], flat[1], heads[1], share, config.temperature, self.head.chunk
            )
            total = total + config.soft * parts["soft"]
        if config.cosine:
            parts["cosine"] = ((1 - _cosine(h, taught)) * weights).sum()
            total = total + config.cosine * parts["cosine"]
        return summed(total, weights.sum(), parts, ctx)


def _head(model: Any) -> Head:
    out = model.unembedding()
    return Head(out.weight, out.bias, out.softcap)


def _cosine(h: mx.array, taught: mx.array) -> mx.array:
    if h.shape[-1] != taught.shape[-1]:
        raise RecipeError(
            f"objective.cosine compares vectors of width {h.shape[-1]} with the teacher's, which "
            f"have {taught.shape[-1]}: set it to 0, or give both models one width."
        )
    h, taught = h.astype(mx.float32), taught.astype(mx.float32)
    lengths = [mx.rsqrt((x * x).sum(axis=-1) + 1e-12) for x in (h, taught)]
    return (h * taught).sum(axis=-1) * lengths[0] * lengths[1]
