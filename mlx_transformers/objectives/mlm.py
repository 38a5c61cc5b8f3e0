"""Masked language modelling: predict masked tokens from their context on both sides."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..core.task import Task
from .chunked_loss import ChunkedLoss, of_tokens, with_aux
from .objective import Arrays, ChunkedKind, VocabularyModel


class Mlm(ChunkedKind):
    """The sum of `-log p(token | the rest)` over masked tokens; Devlin et al. 2018, section 3.1."""

    kind: Literal["mlm"] = "mlm"
    requires: ClassVar[tuple[str, ...]] = ("tokens", "targets", "weights", "valid")
    tasks: ClassVar[frozenset[Task]] = frozenset({"encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"head": ("mlm", "lm")}
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the squared log-partition, which keeps logits from drifting."""

    def build(self) -> "MlmObjective":
        return MlmObjective(self)


class MlmObjective:
    """`(models, batch, ctx) -> Loss`, where batch has `tokens`, `targets`, `weights` (1 where
    masked) and `valid`, all `[B, T]`; optional `types [B, T]`, and `places [B, P]`, the indices of
    the masked tokens, so that the head runs over these alone."""

    def __init__(self, config: Mlm) -> None:
        self.head = ChunkedLoss.of(config, z_loss=config.z_loss)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        bidirectional(ctx, batch)
        x = model.features(model.embedded(batch, ctx), ctx)
        total, parts = masked(self.head, model, x, batch, ctx)
        return with_aux(total, weights.sum(), parts, ctx)


def masked(
    head: ChunkedLoss, model: VocabularyModel, x: mx.array, batch: Arrays, ctx: Context
) -> tuple[mx.array, dict[str, mx.array]]:
    """The summed loss of the masked tokens and its parts, for features x `[B, T, D]`."""
    h = model.transform(gather_masked(x, batch))
    targets, weights = (
        gather_masked(batch["targets"], batch),
        gather_masked(batch["weights"], batch),
    )
    return head(model, h, targets, weights, ctx)


def gather_masked(x: mx.array, batch: Arrays) -> mx.array:
    """Gather x `[B, T, ...]` at the masked tokens, `[B, P, ...]`; x itself if a batch doesn't give
    their `places`. Positions before those of tokens are left out."""
    x = of_tokens(x, batch["targets"])
    if "places" not in batch:
        return x
    places = batch["places"]
    return mx.take_along_axis(x, places if x.ndim == 2 else places[..., None], axis=1)


def bidirectional(ctx: Context, batch: Arrays) -> None:
    """Let every token attend to every other one that is not padding, as an encoder does."""
    ctx.layout = replace(ctx.layout, causal=False, valid=batch["valid"], types=batch.get("types"))
