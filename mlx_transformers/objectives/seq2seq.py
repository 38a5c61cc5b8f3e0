"""Sequence to sequence: predict each target token from the source and the target before it."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..core.task import Task
from .chunked_loss import ChunkedLoss, with_aux
from .objective import Arrays, ChunkedKind, VocabularyModel


class Seq2Seq(ChunkedKind):
    """The sum of `-log p(token | source, tokens before it)`; Sutskever et al. 2014, equation 1.

    Label smoothing: Vaswani et al. 2017, section 5.4. z loss: Chowdhery et al. 2022, section 5.
    """

    kind: Literal["seq2seq"] = "seq2seq"
    requires: ClassVar[tuple[str, ...]] = ("source", "source_valid", "tokens", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"seq2seq"})
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over the vocabulary."""
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the squared log-partition, which keeps logits from drifting."""

    def build(self) -> "Seq2SeqObjective":
        return Seq2SeqObjective(self)


class Seq2SeqObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `source [B, S]`, `source_valid [B, S]`,
    `tokens [B, T + 1]` from the start token on, and `weights [B, T]` of the predictions."""

    def __init__(self, config: Seq2Seq) -> None:
        self.head = ChunkedLoss.of(config, config.label_smoothing, config.z_loss)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        model, tokens = models["model"], batch["tokens"]
        h = model.hidden(model.embedded({**batch, "tokens": tokens[:, :-1]}, ctx), ctx)
        total, parts = self.head(model, h, tokens[:, 1:], batch["weights"], ctx)
        return with_aux(total, batch["weights"].sum(), parts, ctx)
