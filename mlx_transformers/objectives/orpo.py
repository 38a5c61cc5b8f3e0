"""Preference losses without a reference model: ORPO, SimPO and CPO."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from ..ops.preference import cpo, orpo, simpo
from .chunked_loss import ChunkedLoss, with_aux
from .dpo import Dpo, pair_log_probs
from .objective import Arrays, ChunkedKind, VocabularyModel


class Orpo(ChunkedKind):
    """Negative log-likelihood of the chosen completion, times `nll`, plus a loss of the pair.

    "orpo": the log odds ratio of mean log-probabilities (Hong et al. 2024, equation 6); `nll` 1.
    "simpo": mean log-probabilities with a margin (Meng et al. 2024, equation 6); `nll` 0.
    "cpo": summed log-probabilities (Xu et al. 2024, equation 3); `nll` 1.

    The objective `dpo` has `simpo` and `cpo` too, with the same values, beside the losses that need
    a reference: there they take label smoothing, and report DPO's implicit rewards.
    """

    kind: Literal["orpo"] = "orpo"
    requires: ClassVar[tuple[str, ...]] = Dpo.requires
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    unit: ClassVar[Unit] = "text"
    loss: Literal["orpo", "simpo", "cpo"] = "orpo"
    """The loss of a pair."""
    beta: float = Field(0.1, gt=0)
    """Weight of the odds ratio in "orpo"; in the others, scale of the difference of
    log-probabilities."""
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
            losses = orpo(chosen, rejected, beta=config.beta)
        elif config.loss == "simpo":
            losses = simpo(chosen, rejected, beta=config.beta, gamma=config.gamma)
        else:
            losses = cpo(*mx.split(logp, 2), beta=config.beta)
        nll = (-chosen * weights).sum()
        total = (losses * weights).sum() + config.nll * nll
        right = mx.stop_gradient(chosen > rejected)
        parts = {
            "loss": mx.stop_gradient(total),
            "nll": nll,
            "accuracy": (right * weights).sum(),
            "margin": (mx.stop_gradient(chosen - rejected) * weights).sum(),
        }
        return with_aux(total, weights.sum(), parts, ctx)
