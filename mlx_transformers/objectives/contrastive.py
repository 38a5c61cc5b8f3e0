"""Contrastive learning of sentence vectors: InfoNCE with in-batch negatives."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.peers import ALONE, Peers, gathered
from ..core.task import Task
from ..ops.xent import cross_entropy
from .chunked_loss import with_aux
from .classify import correct
from .objective import Arrays, ObjectiveKind, PoolingModel


class Contrastive(ObjectiveKind):
    """The sum of `-log softmax_j(a_i · b_j / temperature)` at j = i, the b of the other rows being
    the negatives: InfoNCE (van den Oord et al. 2018, equation 4) over a batch, the "multiple
    negatives" of Henderson et al. 2017, section 4.4. Vectors should have length 1.
    """

    kind: Literal["contrastive"] = "contrastive"
    requires: ClassVar[tuple[str, ...]] = ("a", "a_valid", "b", "b_valid", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"pool": ("sentence",)}
    unit: ClassVar[Unit] = "text"
    temperature: float = Field(0.05, gt=0)
    """Temperature of the cosines; 0.05 is SimCSE's (Gao et al. 2021, section 3)."""
    symmetric: bool = False
    """Whether the loss is averaged over both directions, a to b and b to a (CLIP: Radford et al.
    2021, figure 3)."""

    @property
    def couples_rows(self) -> str:
        return "The objective takes the other rows of a microbatch as negatives."

    def build(self) -> "ContrastiveObjective":
        return self.build_among(ALONE)

    def build_among(self, peers: Peers) -> "ContrastiveObjective":
        return ContrastiveObjective(self, peers)


class ContrastiveObjective:
    """`(models, batch, ctx) -> Loss` per row, where batch has `a`, `a_valid`, `b`, `b_valid`
    `[B, T]` and `weights [B]`. The vectors are those of the model's pool.

    Negatives come from the same microbatch, of all processes; so accumulating several is not one
    larger batch.
    """

    def __init__(self, config: Contrastive, peers: Peers) -> None:
        self.peers = peers
        self.temperature, self.symmetric = config.temperature, config.symmetric

    def __call__(self, models: Mapping[str, PoolingModel], batch: Arrays, ctx: Context) -> Loss:
        model, world = models["model"], self.peers.world
        pair = (_vectors(model, batch[name], batch[f"{name}_valid"], ctx) for name in "ab")
        a, b, weights = gathered(self.peers, *pair, batch["weights"])
        scores = (a @ b.T).astype(mx.float32) / self.temperature
        labels = mx.arange(len(weights))
        total, nll, right = _info_nce(scores, labels, weights)
        if self.symmetric:
            back, back_nll, _ = _info_nce(scores.T, labels, weights)
            total, nll = 0.5 * (total + back), 0.5 * (nll + back_nll)
        parts = {"loss": nll / world, "accuracy": right / world}
        return with_aux(total / world, batch["weights"].sum(), parts, ctx)


def _vectors(model: PoolingModel, tokens: mx.array, valid: mx.array, ctx: Context) -> mx.array:
    layout = replace(ctx.layout, causal=False, valid=valid)
    text_ctx = replace(ctx, layout=layout, key=ctx.split_key())
    x = model.embedded({"tokens": tokens}, text_ctx)
    return model.pooled(model.features(x, text_ctx), text_ctx)


def _info_nce(
    scores: mx.array, labels: mx.array, weights: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    """Summed loss, the same without gradient, and correct rows for scores `[B, B]`; filler rows
    are not used as negatives."""
    positive = labels[:, None] == labels[None, :]
    scores = mx.where((weights[None, :] > 0) | positive, scores, -1e9)
    total, nll, _ = cross_entropy(scores, labels, weights)
    return total, nll, (correct(scores, labels) * weights).sum()
