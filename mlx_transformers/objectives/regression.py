"""Regression: a number at positions of a sequence of vectors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from .chunked_loss import of_tokens, with_aux
from .objective import ActorCritic, Arrays, ObjectiveKind


class Regression(ObjectiveKind):
    """The squared error of the numbers that the model's pool of kind `scalar` gives at each
    position, averaged over a row; Garg et al. 2022, equation 2."""

    kind: Literal["regression"] = "regression"
    requires: ClassVar[tuple[str, ...]] = ("vectors", "values", "counted", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"pool": ("scalar",)}
    unit: ClassVar[Unit] = "text"

    def build(self) -> "RegressionObjective":
        return RegressionObjective()


class RegressionObjective:
    """`(models, batch, ctx) -> Loss` per row, where batch has `vectors [B, T, W]`, `values` and
    `counted` `[B, T]`, and `weights [B]`."""

    def __call__(self, models: Mapping[str, ActorCritic], batch: Arrays, ctx: Context) -> Loss:
        counted, weights = batch["counted"], batch["weights"]
        error = mx.square(predictions(models["model"], batch["vectors"], ctx) - batch["values"])
        losses = (error * counted).sum(axis=1) / mx.maximum(counted.sum(axis=1), 1)
        total = (losses * weights).sum()
        return with_aux(total, weights.sum(), {"loss": mx.stop_gradient(total)}, ctx)


def predictions(model: ActorCritic, vectors: mx.array, ctx: Context) -> mx.array:
    """The number at each position in float32, `[B, T]`.

    Args:
        model: has a pool of kind `scalar`.
        vectors: in the place of embeddings, `[B, T, W]`.
        ctx: of the forward pass.
    """
    virtual = mx.full(vectors.shape[:2], -1, dtype=mx.int32)
    ctx.layout = replace(ctx.layout, vectors=vectors)
    x = model.features(model.embedded({"tokens": virtual}, ctx), ctx)
    return of_tokens(model.token_values(x, ctx), vectors).astype(mx.float32)
