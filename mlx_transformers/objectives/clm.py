"""Causal language modelling: predict the next token."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..recipe.config import Kind
from .vocabulary import Vocabulary, summed


class Clm(Kind):
    """The sum of `-log p(token | tokens before it)`; Bengio et al. 2003, equation 3.

    Label smoothing: Szegedy et al. 2016, section 7. z loss `z · logsumexp²`: PaLM (Chowdhery et
    al. 2022), section 5.
    """

    kind: Literal["clm"] = "clm"
    needs: ClassVar[tuple[str, ...]] = ("tokens",)
    trains: ClassVar[tuple[str, ...]] = ("continues",)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over the vocabulary."""
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the squared log-partition, which keeps logits from drifting."""
    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = 512
    """Tokens whose logits are held at once: memory against the number of matmuls; `auto` is what
    the planner finds to fit."""

    def build(self) -> "ClmObjective":
        return ClmObjective(self)


class ClmObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `tokens [B, T + 1]`.

    Optional in a batch: `segments [B, T + 1]`, the documents of a packed row, whose borders are
    neither seen nor predicted across; `weights [B, T]` of the predictions.
    """

    def __init__(self, config: Clm) -> None:
        self.head = Vocabulary.of(config)

    def __call__(self, models: dict[str, Any], batch: dict[str, mx.array], ctx: Context) -> Loss:
        model = models["model"]
        inputs, targets, weights = next_tokens(batch, ctx)
        total, parts = self.head(model, model.hidden(inputs, ctx), targets, weights, ctx)
        return summed(total, weights.sum(), parts, ctx)


def next_tokens(batch: dict[str, mx.array], ctx: Context) -> tuple[mx.array, mx.array, mx.array]:
    """What is read, what is predicted, and how much each prediction counts, each `[B, T]`; the
    documents of packed rows go to `ctx`."""
    tokens = batch["tokens"]
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    weights = batch.get("weights", mx.ones(targets.shape))
    if "segments" in batch:
        segments = batch["segments"]
        ctx.layout = replace(ctx.layout, segments=segments[:, :-1])
        weights = weights * (segments[:, 1:] == segments[:, :-1])
    return inputs, targets, weights
