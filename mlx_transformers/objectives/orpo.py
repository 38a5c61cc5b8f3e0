"""Preference losses without a reference model: ORPO, SimPO and CPO."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import mlx.core as mx
from pydantic import Field, field_validator, model_validator

from ..core.context import Context
from ..core.loss import Loss, Unit
from ..core.task import Task
from ..ops.preference import cpo, orpo, simpo
from .chunked_loss import ChunkedLoss, with_aux
from .dpo import Dpo, pair_log_probs
from .objective import Arrays, ChunkedKind, VocabularyModel
from .preference import PairLoss, ReferenceFreeLoss


class Orpo(ChunkedKind):
    """Negative log-likelihood of the chosen completion, times `nll`, plus a loss of the pair.

    The losses, and the `nll` of each where none is set:

    "orpo": the log odds ratio of mean log-probabilities (Hong et al. 2024, equation 6); `nll` 1.
    "simpo": mean log-probabilities with a margin (Meng et al. 2024, equation 6); `nll` 0.
    "cpo": summed log-probabilities (Xu et al. 2024, equation 3); `nll` 1.
    """

    kind: Literal["orpo"] = "orpo"
    requires: ClassVar[tuple[str, ...]] = Dpo.requires
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    unit: ClassVar[Unit] = "text"
    loss: ReferenceFreeLoss = "orpo"
    """The loss of a pair."""
    beta: float = Field(0.1, gt=0)
    """Weight of the odds ratio in "orpo"; in the others, scale of the difference of
    log-probabilities."""
    gamma: float = Field(0.5, ge=0)
    """Margin of "simpo", on the scale of beta."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose labels are swapped, in "simpo" and "cpo"."""
    nll: float | None = Field(None, ge=0)
    """Weight of the chosen completion's negative log-likelihood per token; unset, that of the
    loss's paper: 0 for "simpo", 1 for "orpo" and "cpo"."""

    @field_validator("loss", mode="before")
    @classmethod
    def _has_no_reference(cls, loss: object) -> Any:
        if loss in get_args(PairLoss):
            raise ValueError(
                f"'{loss}' compares with a reference: it is a loss of objective.kind = \"dpo\""
            )
        return loss

    @model_validator(mode="after")
    def _keys_of_the_loss(self) -> "Orpo":
        gamma = type(self).model_fields["gamma"].default
        if self.loss != "simpo" and self.gamma != gamma:
            raise ValueError(f"loss '{self.loss}' doesn't read objective.gamma: unset it")
        if self.loss == "orpo" and self.label_smoothing:
            raise ValueError("loss 'orpo' doesn't read objective.label_smoothing: unset it")
        return self

    @property
    def nll_weight(self) -> float:
        """`nll`, or that of the loss's paper where none is set."""
        if self.nll is not None:
            return self.nll
        return 0.0 if self.loss == "simpo" else 1.0

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
        losses = self._losses(chosen, rejected, *mx.split(logp, 2))
        nll = (-chosen * weights).sum()
        total = (losses * weights).sum() + config.nll_weight * nll
        right = mx.stop_gradient(chosen > rejected)
        parts = {
            "loss": mx.stop_gradient(total),
            "nll": nll,
            "accuracy": (right * weights).sum(),
            "margin": (mx.stop_gradient(chosen - rejected) * weights).sum(),
        }
        return with_aux(total, weights.sum(), parts, ctx)

    def _losses(
        self, chosen: mx.array, rejected: mx.array, chosen_sum: mx.array, rejected_sum: mx.array
    ) -> mx.array:
        """The loss of each pair `[B]`, of mean or of summed log-probabilities."""
        config, smoothing = self.config, self.config.label_smoothing
        if config.loss == "orpo":
            return orpo(chosen, rejected, beta=config.beta)
        if config.loss == "simpo":
            return simpo(
                chosen, rejected, beta=config.beta, gamma=config.gamma, label_smoothing=smoothing
            )
        return cpo(chosen_sum, rejected_sum, beta=config.beta, label_smoothing=smoothing)
