"""Knowledge distillation: a small model learns from the data and from a larger model's outputs."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field, field_validator, model_validator

from ..core.context import Context
from ..core.cpu_streams import PARTS
from ..core.errors import RecipeError
from ..core.loss import Loss
from ..core.task import Task
from ..ops.distillation import Divergence, cosine
from ..ops.soft_targets import SoftTeacher, soft_targets
from .chunked_loss import ChunkedLoss, of_tokens, rows_of_chunk, with_aux
from .clm import next_tokens
from .layer_losses import LayerLosses, Relations
from .mlm import bidirectional
from .objective import Arrays, ChunkedKind, TaughtModel, VocabularyModel


class Distill(ChunkedKind):
    """`hard · nll + soft · T² KL(teacher ‖ student) + cosine · (1 - cos(h_teacher, h_student))
    + layers · |difference of layers' outputs|² + attention · |difference of scores|²
    + embeddings · |difference of embeddings|² + relations`, of the next token. Where tokens of a
    batch are masked, `hard` and `soft` are of these, and all other terms of every token that is not
    padding.

    Hinton et al. 2015, section 2; Sanh et al. 2019 (DistilBERT), section 2, whose code weighs
    them 2, 5 and 1 at T = 2.
    """

    kind: Literal["distill"] = "distill"
    requires: ClassVar[tuple[str, ...]] = ("tokens",)
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm", "encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"head": ("mlm", "lm")}
    teacher: str | dict[str, float]
    """The teacher's run, by name or folder; its best checkpoint, with the same tokenizer. Several
    teachers are a table of runs and their shares in the mean of their distributions; hidden vectors
    and attention are those of the first."""
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
    """Weight of the mean squared difference of layers' outputs (TinyBERT, Jiao et al. 2020,
    equation 8): layer m of the student's N against number m · M / N of the teacher's M, rounded up;
    the mean over the student's layers. Where the widths differ, `model.teacher_dim` projects."""
    attention: float = Field(0.0, ge=0)
    """Weight of the mean squared difference of the same layers' attention scores, before the
    softmax (TinyBERT, equation 7); both models then have as many heads."""
    embeddings: float = Field(0.0, ge=0)
    """Weight of the mean squared difference of the layers' first inputs (TinyBERT, equation 9)."""
    relations: Relations | None = None
    """Relations in the attention of the last layer (MiniLM); none means no such loss."""

    @field_validator("teacher")
    @classmethod
    def _some_teacher(cls, teacher: str | dict[str, float]) -> str | dict[str, float]:
        if isinstance(teacher, dict) and (not teacher or min(teacher.values()) <= 0):
            raise ValueError("teacher gives runs and their shares, of which each is above 0.")
        return teacher

    @model_validator(mode="after")
    def _some_term(self) -> "Distill":
        inside = self.cosine or self.layers or self.attention or self.embeddings or self.relations
        if not (self.hard or self.soft or inside):
            raise ValueError("all weights are 0, so nothing is learned: set soft or another one.")
        if isinstance(self.teacher, dict) and len(self.teacher) > 1 and not self.soft:
            raise ValueError(
                "several teachers share the distribution that soft = 0 leaves out: set soft above "
                "0, or give one teacher."
            )
        return self

    @property
    def teachers(self) -> dict[str, float]:
        """The share of each teacher by its role; the first also teaches inside the model."""
        if isinstance(self.teacher, str):
            return {"teacher": 1.0}
        return {f"teacher.{run}": share for run, share in self.teacher.items()}

    @property
    def learns_soft_targets(self) -> bool:
        return self.soft > 0

    def frozen(self) -> dict[str, str]:
        runs = [self.teacher] if isinstance(self.teacher, str) else [*self.teacher]
        return dict(zip(self.teachers, runs, strict=True))

    def build(self) -> "DistillObjective":
        return DistillObjective(self)


class DistillObjective:
    """`(models, batch, ctx) -> Loss`, where models have the teachers too, and batch has
    `tokens [B, T + 1]` and perhaps `weights [B, T]`, or is as for masked language modelling."""

    def __init__(self, config: Distill) -> None:
        self.config, self.head = config, ChunkedLoss.of(config)
        weights = {name: getattr(config, name) for name in ("layers", "attention", "embeddings")}
        self.inside = LayerLosses(weights, config.relations)

    def __call__(self, models: Mapping[str, TaughtModel], batch: Arrays, ctx: Context) -> Loss:
        config, student = self.config, models["model"]
        teachers = [models[role] for role in config.teachers]
        inputs, targets, weights = _prepared(batch, ctx)
        compared = _compared(batch, weights)
        contexts = [Context(layout=ctx.layout) for _ in teachers]
        self.inside.request(ctx, contexts[0])
        x = student.embedded(inputs, ctx)
        h = of_tokens(student.hidden(x, ctx), targets)
        read, taught = [], []
        for teacher, teacher_ctx in zip(teachers, contexts, strict=True):
            read.append(teacher.embedded(inputs, teacher_ctx))
            hidden = of_tokens(teacher.hidden(read[-1], teacher_ctx), targets)
            taught.append(mx.stop_gradient(hidden))
        hard, parts = self.head(student, h, targets, weights, ctx)
        total = config.hard * hard
        if config.soft:
            parts["soft"] = self._soft(student, h, teachers, taught, weights)
            total = total + config.soft * parts["soft"]
        if config.cosine:
            parts["cosine"] = ((1 - _cosine(h, taught[0])) * compared).sum()
            total = total + config.cosine * parts["cosine"]
        pair = ((student, teachers[0]), (x, read[0]), (ctx, contexts[0]))
        inside, each_inside = self.inside(*pair, compared)
        return with_aux(total + inside, weights.sum(), parts | each_inside, ctx)

    def _soft(
        self,
        student: VocabularyModel,
        h: mx.array,
        teachers: Sequence[VocabularyModel],
        taught: Sequence[mx.array],
        weights: mx.array,
    ) -> mx.array:
        """The summed divergence from the teachers' distribution."""
        config = self.config
        shares = config.teachers.values()
        divergences = [
            SoftTeacher(x.reshape(-1, x.shape[-1]), model.unembedding(), share)
            for model, x, share in zip(teachers, taught, shares, strict=True)
        ]
        return soft_targets(
            h.reshape(-1, h.shape[-1]),
            student.unembedding(),
            divergences,
            mx.stop_gradient(weights.reshape(-1)),
            config.temperature,
            rows_of_chunk(self.head.chunk, False, PARTS.get()),
            config.divergence,
            config.beta,
        )


def _prepared(batch: Arrays, ctx: Context) -> tuple[Arrays, mx.array, mx.array]:
    """The inputs, targets `[B, T]` and weights `[B, T]` of a batch; the rows' facts go to `ctx`."""
    if "targets" in batch:
        bidirectional(ctx, batch)
        return batch, batch["targets"], batch["weights"]
    inputs, targets, weights = next_tokens(batch, ctx)
    return {**batch, "tokens": inputs}, targets, weights


def _compared(batch: Arrays, weights: mx.array) -> mx.array:
    """Weights `[B, T]` of the tokens whose vectors and attention are compared.

    Those of the predicted tokens; in a masked batch every token that is not padding counts alike,
    as in TinyBERT, MiniLM and DistilBERT. They then add up to as much as the weights of the masked
    tokens, which divide a step's sums, so that the mean of a batch is one over its tokens.
    """
    if "targets" not in batch:
        return weights
    valid = batch["valid"].astype(mx.float32)
    return valid * (weights.sum() / mx.maximum(valid.sum(), 1))


def _cosine(h: mx.array, taught: mx.array) -> mx.array:
    if h.shape[-1] != taught.shape[-1]:
        raise RecipeError(
            f"objective.cosine compares vectors of width {h.shape[-1]} with the teacher's, which "
            f"have {taught.shape[-1]}: set it to 0, or give both models one width."
        )
    return cosine(h, taught)
