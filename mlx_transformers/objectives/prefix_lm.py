"""Prefix language modelling: attention is bidirectional within the prefix, causal after it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from ..core.context import Context
from ..core.loss import Loss
from ..core.task import Task
from .chunked_loss import ChunkedLoss, with_aux
from .objective import Arrays, ChunkedKind, VocabularyModel


class PrefixLm(ChunkedKind):
    """The sum of `-log p(token | prefix, tokens before it)` over the tokens after the prefix.

    Liu et al. 2018, section 4.2.3; Raffel et al. 2020, section 3.2.1 and figure 4.
    """

    kind: Literal["prefix_lm"] = "prefix_lm"
    requires: ClassVar[tuple[str, ...]] = ("tokens", "prefix", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})

    def build(self) -> "PrefixLmObjective":
        return PrefixLmObjective(self)


class PrefixLmObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `tokens [B, T + 1]`, `prefix [B]` (the
    length of the prefix) and `weights [B, T]` of the predictions."""

    def __init__(self, config: PrefixLm) -> None:
        self.head = ChunkedLoss.of(config)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        model, tokens, weights = models["model"], batch["tokens"], batch["weights"]
        ctx.layout = replace(ctx.layout, prefix=batch["prefix"])
        h = model.hidden(model.embedded({**batch, "tokens": tokens[:, :-1]}, ctx), ctx)
        total, parts = self.head(model, h, tokens[:, 1:], weights, ctx)
        return with_aux(total, weights.sum(), parts, ctx)
