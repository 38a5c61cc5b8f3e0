"""Preference losses without a reference model: ORPO, SimPO and CPO."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from ..ops.preference import LOSSES, Pairs, Preference, orpo, simpo
from .chunked_loss import ChunkedLoss, with_aux
from .dpo import Dpo, pair_log_probs
from .objective import Arrays, ChunkedKind, VocabularyModel


class Orpo(ChunkedKind):
    """A likelihood term on the chosen completion, and a term that sets the rejected one apart.

    "orpo": the odds ratio of mean log-probabilities (Hong et al. 2024, equation 6), beside `nll` 1.
    "simpo": mean log-probabilities with a margin (Meng et al. 2024, equation 6), beside `nll` 0.
    "cpo": summed log-probabilities as in DPO (Xu et al. 2024, equation 3), beside `nll` 1.
    """

    kind: Literal["orpo"] = "orpo"
    requires: ClassVar[tuple[str, ...]] = Dpo.requires
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    unit: ClassVar[Unit] = "text"
    loss: Literal["orpo", "simpo", "cpo"] = "orpo"
    """The term of a pair."""
    beta: float = Field(0.1, gt=0)
    """Weight of the odds ratio; of the others the scale of the difference."""
    gamma: float = Field(0.5, ge=0)
    """Margin of "simpo", on the scale of beta."""
    nll: float = Field(1.0, ge=0)
    """Weight of the chosen completion's negative log-likelihood per token."""

    def build(self) -> "OrpoObjective":
        return OrpoObjective(self)


class OrpoObjective:
    """`(models, batch, ctx) -> Loss` per pair; batch is that of the kind `preferences`."""

    def __init__(self, config: Orpo) -> None:
        self.config, self.head = config, ChunkedLoss.of(config)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        config, weights = self.config, batch["weights"]
        counted = mx.concatenate([batch["chosen_counted"], batch["rejected_counted"]])
        logp = pair_log_probs(models["model"], batch, ctx, self.head)
        mean = logp / mx.maximum(counted.sum(axis=1), 1)
        chosen, rejected = mx.split(mean, 2)
        if config.loss == "orpo":
            apart = orpo(chosen, rejected, beta=config.beta)
        elif config.loss == "simpo":
            apart = simpo(chosen, rejected, beta=config.beta, gamma=config.gamma)
        else:
            zero, one = mx.zeros_like(chosen), mx.ones_like(chosen)
            first, second = mx.split(logp, 2)
            pairs = Pairs(first, second, zero, zero, one, one)
            apart = LOSSES["sigmoid"](pairs.scores(), Preference(config.beta))
        nll = (-chosen * weights).sum()
        total = (apart * weights).sum() + config.nll * nll
        right = mx.stop_gradient(chosen > rejected)
        parts = {
            "loss": mx.stop_gradient(total),
            "nll": nll,
            "accuracy": (right * weights).sum(),
            "margin": (mx.stop_gradient(chosen - rejected) * weights).sum(),
        }
        return with_aux(total, weights.sum(), parts, ctx)
