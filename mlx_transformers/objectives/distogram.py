"""Contacts and distances of residues from an alignment, beside its masked letters."""

from collections.abc import Mapping
from math import isqrt
from typing import ClassVar, Literal, Protocol

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.loss import Best, Loss, Unit
from ..core.task import Task
from ..ops.xent import cross_entropy
from .chunked_loss import with_aux
from .mlm import bidirectional
from .objective import Arrays, ObjectiveKind, PoolingModel, VocabularyModel


class Distogram(ObjectiveKind):
    """`mean over pairs + masked_weight · mean over masked letters`, both of `-log p`, a family.

    Jumper et al. 2021, supplement, sections 1.9.8 and 1.9.9. Class 0 of a pair is a contact.
    """

    kind: Literal["distogram"] = "distogram"
    requires: ClassVar[tuple[str, ...]] = (
        *("tokens", "valid", "letters", "masked"),
        *("pairs", "pair_weights", "weights"),
    )
    tasks: ClassVar[frozenset[Task]] = frozenset({"encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pool": ("distogram", "outer_product"),
        "head": ("mlm", "lm"),
    }
    unit: ClassVar[Unit] = "text"
    classes_from: ClassVar[str | None] = "pool"
    best: ClassVar[Best] = Best("val_precision", "max")
    masked_weight: float = Field(0.5, ge=0)
    """Weight of the masked letters' loss relative to that of the pairs."""

    def build(self) -> "DistogramObjective":
        return DistogramObjective(self)


class AlignmentModel(VocabularyModel, PoolingModel, Protocol):
    """A model of alignments, with logits for letters and for pairs."""


class DistogramObjective:
    """`(models, batch, ctx) -> Loss` per family.

    The batch has `tokens`, `valid`, `letters` and `masked` (1 where a letter is predicted), all
    `[B, S * N]`; `pairs`, the class of each pair, and `pair_weights`, both `[B, N * N]`; `weights
    [B]`. `precision` is that of the N/5 likeliest contacts among the counted pairs.
    """

    def __init__(self, config: Distogram) -> None:
        self.masked_weight = config.masked_weight

    def __call__(self, models: Mapping[str, AlignmentModel], batch: Arrays, ctx: Context) -> Loss:
        model, weights = models["model"], batch["weights"]
        bidirectional(ctx, batch)
        x = model.features(model.embedded(batch, ctx), ctx)
        logits = pair_logits(model.pooled(x, ctx), batch["pairs"])
        pair_weights = batch["pair_weights"]
        total, nll = family_sum(logits, batch["pairs"], pair_weights, weights)
        letters = model.unembedding().logits_upcast(model.transform(x))
        masked, masked_nll = family_sum(letters, batch["letters"], batch["masked"], weights)
        parts = {
            "loss": nll,
            "masked_loss": masked_nll,
            "precision": (precision(logits, batch["pairs"], pair_weights) * weights).sum(),
        }
        return with_aux(total + self.masked_weight * masked, weights.sum(), parts, ctx)


def pair_logits(logits: mx.array, pairs: mx.array) -> mx.array:
    """Flatten logits `[B, N, N, C]` to `[B, N * N, C]`.

    Raises:
        RecipeError: the model has another number of residues than the batch.
    """
    flat = logits.flatten(1, 2)
    if flat.shape[1] != pairs.shape[1]:
        raise RecipeError(
            f"The model gives {flat.shape[1]} pairs of residues and a batch has {pairs.shape[1]}: "
            "set the model's length (model.length, model.pool.length) to data.batch.length."
        )
    return flat


def family_sum(
    logits: mx.array, targets: mx.array, counted: mx.array, weights: mx.array
) -> tuple[mx.array, mx.array]:
    """The sum over families of the mean `-log p` of their counted targets, with its gradient and
    for the log."""
    share = counted * (weights / mx.maximum(counted.sum(axis=1), 1))[:, None]
    flat = logits.reshape(-1, logits.shape[-1])
    total, nll, _ = cross_entropy(flat, targets.reshape(-1), share.reshape(-1))
    return total, nll


def precision(logits: mx.array, pairs: mx.array, counted: mx.array) -> mx.array:
    """The share `[B]` of real contacts among the N/5 counted pairs that are likeliest to be one,
    each pair once."""
    residues = isqrt(pairs.shape[1])
    index = mx.arange(residues)
    once = counted * (index[:, None] < index[None]).reshape(-1)
    contact = logits[..., 0].astype(mx.float32) - mx.logsumexp(
        logits[..., 1:].astype(mx.float32), axis=-1
    )
    likeliest = mx.argsort(mx.where(once > 0, -contact, mx.inf), axis=-1)
    likeliest = likeliest[:, : max(1, residues // 5)]
    return (mx.take_along_axis(pairs, likeliest, axis=-1) == 0).mean(axis=-1)
