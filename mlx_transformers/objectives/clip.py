"""Contrastive training of pictures and texts: the softmax of CLIP, the sigmoid of SigLIP."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Protocol

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Best, Loss, Unit
from ..core.peers import ALONE, Peers, gathered
from ..core.task import Task
from ..ops.contrastive import clip_losses, siglip_losses
from .chunked_loss import with_aux
from .classify import correct
from .objective import Arrays, ObjectiveKind, PoolingModel

LOSSES = {"softmax": clip_losses, "sigmoid": siglip_losses}


class TwoTowers(PoolingModel, Protocol):
    """A model that compares pictures with texts; its pool gives the vectors of texts."""

    def encode_image(self, pixels: mx.array, ctx: Context) -> mx.array:
        """The vectors `[N, W]` of pictures."""
        ...

    def logits(self, pictures: mx.array, texts: mx.array) -> mx.array:
        """The logits `[N, B]` of vectors of pictures and of texts."""
        ...


class ClipPairs(ObjectiveKind):
    """The contrastive loss of the pictures and texts of a batch; other rows are the negatives.

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
    """A softmax over the rows of the batch, or a sigmoid for each pair."""

    @property
    def couples_rows(self) -> str:
        return "The objective takes the other rows of a microbatch as negatives."

    def build(self) -> "ClipObjective":
        return self.build_among(ALONE)

    def build_among(self, peers: Peers) -> "ClipObjective":
        return ClipObjective(self, peers)


class ClipObjective:
    """`(models, batch, ctx) -> Loss` per pair, where batch has `pixels [B, ...]`, `tokens` and
    `valid` `[B, T]`, and `weights [B]`.

    Negatives come from the same microbatch, of all processes; so accumulating several is not one
    larger batch.
    """

    def __init__(self, config: ClipPairs, peers: Peers) -> None:
        self.losses, self.peers = LOSSES[config.loss], peers

    def __call__(self, models: Mapping[str, TwoTowers], batch: Arrays, ctx: Context) -> Loss:
        model, world = models["model"], self.peers.world
        local = (*vectors(model, batch, ctx), batch["weights"])
        pictures, texts, weights = gathered(self.peers, *local)
        logits = model.logits(pictures, texts)
        keep = weights > 0
        losses = self.losses(logits, keep) * weights
        total = losses.sum() / world
        scores = mx.where(keep[None, :], mx.stop_gradient(logits), -mx.inf)
        right = (correct(scores, mx.arange(len(weights))) * weights).sum() / world
        parts = {"loss": mx.stop_gradient(total), "accuracy": right}
        return with_aux(total, batch["weights"].sum(), parts, ctx)


def vectors(model: TwoTowers, batch: Arrays, ctx: Context) -> tuple[mx.array, mx.array]:
    """The vectors `[B, W]` of the pictures and of the texts of a batch."""
    pictures = model.encode_image(batch["pixels"], ctx.inner())
    text_ctx = replace(ctx, layout=replace(ctx.layout, valid=batch["valid"]), key=ctx.split_key())
    x = model.features(model.embedded({"tokens": batch["tokens"]}, text_ctx), text_ctx)
    return pictures, model.pooled(x, text_ctx)
