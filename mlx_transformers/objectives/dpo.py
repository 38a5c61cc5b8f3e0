"""Direct preference optimisation: learn from pairs of completions without a reward model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

import mlx.core as mx
from pydantic import Field, field_validator, model_validator

from ..core.context import Context
from ..core.loss import Loss
from ..ops.preference import LOSSES, Pairs, Preference
from .chunked_loss import ChunkedLoss, with_aux
from .objective import Arrays, VocabularyModel
from .preference import PairLoss, PreferenceKind, ReferenceFreeLoss, reference_of

RANKED = ("aot", "aot_unpaired")
"""Losses that sort the scores of a microbatch and compare them rank by rank."""


class Dpo(PreferenceKind):
    """DPO and its relatives: make the chosen completion likelier than the rejected one, relative to
    a reference model, usually the run that training started from.

    Rafailov et al. 2023, equation 7; the papers of the other losses are named in
    `ops/preference.py`. Reported beside the loss, per pair: `accuracy` (how often the chosen
    completion has the higher reward), `margin` (how much higher), and the implicit rewards
    `beta (log p - log p_reference)`.
    """

    kind: Literal["dpo"] = "dpo"
    requires: ClassVar[tuple[str, ...]] = (
        "chosen",
        "chosen_counted",
        "rejected",
        "rejected_counted",
        "weights",
    )
    loss: PairLoss = "sigmoid"
    """The loss of a pair."""
    length_normalised: bool = False
    """Whether log-probabilities are means over a completion's tokens rather than sums."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose labels are swapped."""
    sft: float = Field(0.0, ge=0)
    """Weight of a second loss, the chosen completion's negative log-likelihood per token."""
    divergence: Literal["reverse_kl", "forward_kl", "js_divergence"] = "reverse_kl"
    """The divergence from the reference that the objective penalises (f-DPO, Wang et al. 2023)."""

    @field_validator("loss", mode="before")
    @classmethod
    def _has_a_reference(cls, loss: object) -> Any:
        if loss in get_args(ReferenceFreeLoss):
            raise ValueError(
                f"'{loss}' compares with no reference: it is a loss of objective.kind = \"orpo\""
            )
        return loss

    @model_validator(mode="after")
    def _smoothing_fits(self) -> "Dpo":
        if self.loss == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss 'exo_pair' needs objective.label_smoothing, such as 1e-3")
        return self

    @property
    def couples_rows(self) -> str:
        if self.loss in RANKED:
            return "The loss compares sorted scores of a microbatch, not those of each pair."
        if self.loss == "bco_pair":
            return "The loss subtracts the mean reward of a microbatch."
        return ""

    def build(self) -> "DpoObjective":
        return DpoObjective(self)


class DpoObjective:
    """`(models, batch, ctx) -> Loss` per pair, where models may have a "reference", and batch is
    that of the kind `preferences`."""

    def __init__(self, config: Dpo) -> None:
        self.config, self.head = config, ChunkedLoss.of(config)
        self.settings = Preference(config.beta, config.label_smoothing)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        config, weights = self.config, batch["weights"]
        counted = mx.concatenate([batch["chosen_counted"], batch["rejected_counted"]])
        chosen, rejected = mx.split(pair_log_probs(models["model"], batch, ctx, self.head), 2)
        chosen_ref, rejected_ref = mx.zeros_like(chosen), mx.zeros_like(rejected)
        if "reference_chosen" in batch:
            chosen_ref, rejected_ref = batch["reference_chosen"], batch["reference_rejected"]
        elif config.reference is not None:
            with reference_of(models, config.reference) as reference:
                frozen = pair_log_probs(reference, batch, Context(), self.head)
            chosen_ref, rejected_ref = mx.split(mx.stop_gradient(frozen), 2)
        n_chosen, n_rejected = mx.split(counted.sum(axis=1), 2)
        pairs = Pairs(
            chosen, rejected, chosen_ref, rejected_ref, n_chosen, n_rejected, config.divergence
        )
        if config.length_normalised:
            pairs = pairs.per_token()
        n = weights.sum()  # once: MLX 0.32 can't compile an output that is also computed elsewhere
        parts = {"loss": self._loss(pairs, weights, n), **self._rewards(pairs, weights)}
        total = parts["loss"]
        if config.sft:
            nll = -chosen / mx.maximum(n_chosen, 1)
            parts["nll"] = (nll * weights).sum()
            total = total + config.sft * parts["nll"]
        return with_aux(total, n, parts, ctx)

    def _loss(self, pairs: Pairs, weights: mx.array, n: mx.array) -> mx.array:
        """The sum of the weighted losses of pairs; n is the sum of the weights."""
        config, settings = self.config, self.settings
        scores = pairs.scores()
        if config.loss == "bco_pair":
            both = mx.stop_gradient(scores.chosen_ratio + scores.rejected_ratio) / 2
            mean = (both * weights).sum() / mx.maximum(n, 1)
            settings = replace(settings, shift=config.beta * mean)
        if config.loss in RANKED:
            scores = scores.filler_last(weights > 0)
            weights = -mx.sort(-weights)
        loss = LOSSES[config.loss](scores, settings)
        return (loss * weights).sum()

    def _rewards(self, pairs: Pairs, weights: mx.array) -> Arrays:
        good = mx.stop_gradient(pairs.chosen - pairs.reference_chosen) * self.config.beta
        bad = mx.stop_gradient(pairs.rejected - pairs.reference_rejected) * self.config.beta
        return {
            "accuracy": ((good > bad) * weights).sum(),
            "margin": ((good - bad) * weights).sum(),
            "reward_chosen": (good * weights).sum(),
            "reward_rejected": (bad * weights).sum(),
        }


def pair_log_probs(
    model: VocabularyModel, batch: Arrays, ctx: Context, head: ChunkedLoss
) -> mx.array:
    """The log-probability in nats of the counted tokens of each chosen, then each rejected
    sequence, `[2 B]`; both sides go through the model as one batch."""
    tokens = mx.concatenate([batch["chosen"], batch["rejected"]])
    counted = mx.concatenate([batch["chosen_counted"], batch["rejected_counted"]])
    return head.sequence_log_probs(model, tokens, counted, ctx)
