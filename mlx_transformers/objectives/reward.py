"""Reward models: a number for a prompt with its completion, learned from preferences."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Best, Loss, Unit
from ..core.task import Task
from ..ops.preference import bradley_terry
from .chunked_loss import with_aux
from .objective import Arrays, ObjectiveKind, PoolingModel


class Reward(ObjectiveKind):
    """Bradley-Terry: `-log sigmoid(r_chosen - r_rejected - margin)`, where r is the model's pool of
    kind `scalar`; Ouyang et al. 2022, equation 1.

    Reported per pair: `accuracy`, how often the chosen completion has the higher reward;
    `confidence`, the mean probability of the side that is predicted, which equals the accuracy
    where the model is calibrated; `brier`, the mean squared error of the chosen side's
    probability; `margin` and the mean rewards.
    """

    kind: Literal["reward"] = "reward"
    requires: ClassVar[tuple[str, ...]] = (
        "chosen",
        "chosen_counted",
        "rejected",
        "rejected_counted",
        "weights",
    )
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm", "encode"})
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"pool": ("scalar",)}
    unit: ClassVar[Unit] = "text"
    best: ClassVar[Best] = Best("val_accuracy", "max")
    centering: float = Field(0.0, ge=0)
    """Weight of `(r_chosen + r_rejected)^2`, which keeps rewards near zero (Eisenstein et al.
    2023, section 4)."""

    def build(self) -> "RewardObjective":
        return RewardObjective(self)


class RewardObjective:
    """`(models, batch, ctx) -> Loss` per pair; batch is that of the kind `preferences`, where a
    `margin [B]` is how much better the chosen completion should be (Llama 2, section 3.2.2)."""

    def __init__(self, config: Reward) -> None:
        self.centering = config.centering

    def __call__(self, models: Mapping[str, PoolingModel], batch: Arrays, ctx: Context) -> Loss:
        weights = batch["weights"]
        tokens = mx.concatenate([batch["chosen"], batch["rejected"]])
        counted = mx.concatenate([batch["chosen_counted"], batch["rejected_counted"]])
        chosen, rejected = mx.split(rewards(models["model"], tokens, counted, ctx), 2)
        loss = bradley_terry(chosen, rejected, margin=batch.get("margin"), centering=self.centering)
        total = (loss * weights).sum()
        good, bad = mx.stop_gradient(chosen), mx.stop_gradient(rejected)
        p = mx.sigmoid(good - bad)
        parts = {
            "loss": mx.stop_gradient(total),
            "accuracy": ((good > bad) * weights).sum(),
            "confidence": (mx.maximum(p, 1 - p) * weights).sum(),
            "brier": (mx.square(1 - p) * weights).sum(),
            "margin": ((good - bad) * weights).sum(),
            "reward_chosen": (good * weights).sum(),
            "reward_rejected": (bad * weights).sum(),
        }
        return with_aux(total, weights.sum(), parts, ctx)


def rewards(model: PoolingModel, tokens: mx.array, counted: mx.array, ctx: Context) -> mx.array:
    """The reward of each row in float32, `[B]`.

    Args:
        model: has a pool of kind `scalar`.
        tokens: prompts with completions, padded on the right, `[B, T + 1]`.
        counted: `[B, T]`, 1 where a token of the completion is predicted; the row ends at the last.
        ctx: of the forward pass.
    """
    length = counted.shape[1]
    last = mx.where(counted > 0, mx.arange(1, length + 1), 0).max(axis=1, keepdims=True)
    # A row of T + 1 tokens loses its last one: the model may have no more than T positions.
    ctx.layout = replace(ctx.layout, valid=mx.arange(length) <= last)
    x = model.features(model.embedded({"tokens": tokens[:, :-1]}, ctx), ctx)
    return model.pooled(x, ctx).astype(mx.float32)
