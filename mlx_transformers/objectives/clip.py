"""Contrastive training of pictures and texts: the softmax of CLIP, the sigmoid of SigLIP."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Protocol

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Best, Loss, Unit
from ..core.task import Task
from ..ops.contrastive import clip_losses, siglip_losses
from .chunked_loss import with_aux
from .classify import correct
from .objective import Arrays, ObjectiveKind, PoolingModel

LOSSES = {"softmax": clip_losses, "sigmoid": siglip_losses}


class TwoTowers(PoolingModel, Protocol):
    """A model that compares pictures with texts; its pool gives the vectors of texts."""

    def see(self, pixels: mx.array, ctx: Context) -> mx.array:
        """The vectors `[N, W]` of pictures."""
        ...

    def logits(self, pictures: mx.array, texts: mx.array) -> mx.array:
        """The logits `[N, B]` of vectors of pictures and of texts."""
        ...


class ClipPairs(ObjectiveKind):
    """The loss of telling which text of a batch belongs to which picture; the other rows are the
    negatives.

    `softmax`: InfoNCE in both directions, CLIP (Radford et al. 2021), figure 3. `sigmoid`: each
    pair on its own, SigLIP (Zhai et al. 2023), algorithm 1.
    """

    kind: Literal["clip"] = "clip"
    requires: ClassVar[tuple[str, ...]] = ("pixels", "tokens", "valid", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"match"})
    unit: ClassVar[Unit] = "text"
    # A confident model's loss rises while it still ranks better.
    best: ClassVar[Best] = Best("val_accuracy", "max")
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """How a pair is told from the others."""

    def build(self) -> "ClipObjective":
        return ClipObjective(self)


class ClipObjective:
    """`(models, batch, ctx) -> Loss` per pair, where batch has `pixels [B, ...]`, `tokens` and
    `valid` `[B, T]`, and `weights [B]`.

    Negatives come from the same microbatch of one process, so accumulating several, or training
    in several processes, is not one larger batch.
    """

    def __init__(self, config: ClipPairs) -> None:
        self.losses = LOSSES[config.loss]

    def __call__(self, models: Mapping[str, TwoTowers], batch: Arrays, ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        pictures, texts = vectors(model, batch, ctx)
        logits = model.logits(pictures, texts)
        keep = weights > 0
        losses = self.losses(logits, keep) * weights
        total = losses.sum()
        shown = mx.where(keep[None, :], mx.stop_gradient(logits), -mx.inf)
        right = (correct(shown, mx.arange(len(weights))) * weights).sum()
        parts = {"loss": mx.stop_gradient(total), "accuracy": right}
        return with_aux(total, weights.sum(), parts, ctx)


def vectors(model: TwoTowers, batch: Arrays, ctx: Context) -> tuple[mx.array, mx.array]:
    """The vectors `[B, W]` of the pictures and of the texts of a batch."""
    pictures = model.see(batch["pixels"], Context(key=ctx.split_key()))
    own = replace(ctx, layout=replace(ctx.layout, valid=batch["valid"]), key=ctx.split_key())
    x = model.features(model.embedded({"tokens": batch["tokens"]}, own), own)
    return pictures, model.pooled(x, own)
