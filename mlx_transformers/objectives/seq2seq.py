"""Sequence to sequence: predict each target token from the source and the target before it."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from ..core.context import Context
from ..core.loss import Loss
from ..core.task import Task
from .chunked_loss import ChunkedLoss, with_aux
from .objective import Arrays, SmoothedKind, VocabularyModel


class Seq2Seq(SmoothedKind):
    """The sum of `-log p(token | source, tokens before it)`; Sutskever et al. 2014, equation 1.

    Teacher forcing: the decoder reads the target's own tokens, shifted by one (Williams & Zipser
    1989). Label smoothing: Vaswani et al. 2017, section 5.4. z loss: Chowdhery et al. 2022,
    section 5.
    """

    kind: Literal["seq2seq"] = "seq2seq"
    requires: ClassVar[tuple[str, ...]] = ("source", "source_valid", "tokens", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"seq2seq"})

    def build(self) -> "Seq2SeqObjective":
        return Seq2SeqObjective(self)


class Seq2SeqObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `source [B, S]`, `source_valid [B, S]`,
    `tokens [B, T + 1]` from the start token on, and `weights [B, T]` of the predictions."""

    def __init__(self, config: SmoothedKind) -> None:
        self.head = ChunkedLoss.of(config, config.label_smoothing, config.z_loss)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        model, tokens = models["model"], batch["tokens"]
        h = model.hidden(model.embedded({**batch, "tokens": tokens[:, :-1]}, ctx), ctx)
        total, parts = self.head(model, h, tokens[:, 1:], batch["weights"], ctx)
        return with_aux(total, batch["weights"].sum(), parts, ctx)
