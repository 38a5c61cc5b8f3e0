"""Causal language modelling: predict the next token."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss
from ..core.task import Task
from .chunked_loss import ChunkedLoss, with_aux
from .objective import Arrays, SmoothedKind, VocabularyModel


class NextTokenKind(SmoothedKind):
    """The table of an objective that predicts next tokens."""

    requires: ClassVar[tuple[str, ...]] = ("tokens",)
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    accuracy: bool = False
    """Whether to report the share of tokens that are predicted as the most likely ones, too. It
    costs one more product with the vocabulary."""


class Clm(NextTokenKind):
    """The sum of `-log p(token | tokens before it)`; Bengio et al. 2003, equation 3.

    Label smoothing: Szegedy et al. 2016, section 7. z loss `z · logsumexp²`: PaLM (Chowdhery et
    al. 2022), section 5.
    """

    kind: Literal["clm"] = "clm"

    def build(self) -> "ClmObjective":
        return ClmObjective(self)


class ClmObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `tokens [B, T + 1]`.

    Optional in a batch: `segments [B, T + 1]`, document ids of packed rows: no attention and no
    prediction crosses documents; `weights [B, T]` of the predictions.
    """

    def __init__(self, config: NextTokenKind) -> None:
        self.head = ChunkedLoss.of(config, config.label_smoothing, config.z_loss)
        self.accuracy = config.accuracy

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        model = models["model"]
        inputs, targets, weights = next_tokens(batch, ctx)
        h = model.hidden(model.embedded({**batch, "tokens": inputs}, ctx), ctx)
        total, parts = self.head(model, h, targets, weights, ctx)
        if self.accuracy:
            parts["accuracy"] = self.head.correct(model, h, targets, weights)
        return with_aux(total, weights.sum(), parts, ctx)


def next_tokens(batch: Arrays, ctx: Context) -> tuple[mx.array, mx.array, mx.array]:
    """The inputs, targets and weights of next-token prediction, each `[B, T]`; document ids of
    packed rows go to `ctx`."""
    tokens = batch["tokens"]
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    weights = batch.get("weights", mx.ones(targets.shape))
    if "segments" in batch:
        segments = batch["segments"]
        ctx.layout = replace(ctx.layout, segments=segments[:, :-1])
        weights = weights * (segments[:, 1:] == segments[:, :-1])
    return inputs, targets, weights
