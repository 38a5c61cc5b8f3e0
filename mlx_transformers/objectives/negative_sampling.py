"""Negative sampling (word2vec): predict a word against words drawn at random."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from ..ops.negative_sampling import masked_mean, negative_sampling, scores_of
from .chunked_loss import with_aux
from .objective import Arrays, FeatureModel, ObjectiveKind


class WordPairModel(FeatureModel, Protocol):
    """A model with input and output vectors of words."""

    def predicted(self, tokens: mx.array) -> mx.array:
        """The output vectors `[..., D]` of words `[...]`."""
        ...


class NegativeSampling(ObjectiveKind):
    """`-log σ(u·h) - Σ_k log σ(-u_k·h)`, where h is the mean of the input words' vectors, u
    that of the word to predict and u_k those of the K drawn: Mikolov et al. 2013b, equation 4.

    With `data.batch` `skip_gram` one word is given, with `cbow` those around a position. The log
    has `accuracy`, the share of examples whose word scores higher than all that were drawn.
    """

    kind: Literal["negative_sampling"] = "negative_sampling"
    requires: ClassVar[tuple[str, ...]] = ("tokens", "valid", "targets", "negatives", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"word_vectors"})
    unit: ClassVar[Unit] = "pair"

    def build(self) -> "NegativeSamplingObjective":
        return NegativeSamplingObjective()


class NegativeSamplingObjective:
    """`(models, batch, ctx) -> Loss` per example, where batch has `tokens` and `valid` [B, N, I],
    `targets` [B, N], `negatives` [B, N, K] and `weights` [B, N]."""

    def __call__(self, models: Mapping[str, WordPairModel], batch: Arrays, ctx: Context) -> Loss:
        model, weights, targets = models["model"], batch["weights"], batch["targets"]
        context_vectors = model.features(model.embedded({"tokens": batch["tokens"]}, ctx), ctx)
        h = masked_mean(context_vectors, batch["valid"])
        drawn = batch["negatives"]
        ids = mx.concatenate([targets[..., None], drawn], axis=-1)
        scores = scores_of(h, model.predicted(ids))
        positive, noise = scores[..., 0], scores[..., 1:]
        is_noise = drawn != targets[..., None]
        total = (negative_sampling(positive, noise, is_noise) * weights).sum()
        best = mx.where(is_noise, noise, -mx.inf).max(axis=-1)
        right = ((positive > best) * weights).sum()
        parts = {"loss": mx.stop_gradient(total), "accuracy": mx.stop_gradient(right)}
        return with_aux(total, weights.sum(), parts, ctx)
