"""Sequence to sequence: predict each token of the target from the source and those before it."""

from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..recipe.config import Kind
from .vocabulary import Vocabulary, summed


class Seq2Seq(Kind):
    """The sum of `-log p(token | source, tokens before it)`; Sutskever et al. 2014, equation 1.

    Label smoothing: Vaswani et al. 2017, section 5.4. z loss: Chowdhery et al. 2022, section 5.
    """

    kind: Literal["seq2seq"] = "seq2seq"
    needs: ClassVar[tuple[str, ...]] = ("source", "source_valid", "tokens", "weights")
    trains: ClassVar[tuple[str, ...]] = ("answers",)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over the vocabulary."""
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the squared log-partition, which keeps logits from drifting."""
    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = 512
    """Tokens whose logits are held at once: memory against the number of matmuls; `auto` is what
    the planner finds to fit."""

    def build(self) -> "Seq2SeqObjective":
        return Seq2SeqObjective(self)


class Seq2SeqObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `source [B, S]`, `source_valid [B, S]`,
    `tokens [B, T + 1]` from the start token on, and `weights [B, T]` of the predictions.

    The model is asked for `encode(source, ctx) -> memory [B, S, D]`, where `ctx.memory_valid` marks
    the padding of the source; then for `hidden(tokens, ctx)`, which reads `ctx.memory` too.
    """

    def __init__(self, config: Seq2Seq) -> None:
        self.head = Vocabulary.of(config)

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model, tokens = models["model"], batch["tokens"]
        encode(model, batch["source"], batch["source_valid"], ctx)
        h = model.hidden(tokens[:, :-1], ctx)
        total, parts = self.head(model, h, tokens[:, 1:], batch["weights"], ctx)
        return summed(total, batch["weights"].sum(), parts, ctx)


def encode(model: Any, source: mx.array, valid: mx.array, ctx: Context) -> None:
    """Have the model read the source `[B, S]`; what it made of it is in `ctx` afterwards."""
    ctx.memory_valid = valid
    ctx.memory = model.encode(source, ctx)
