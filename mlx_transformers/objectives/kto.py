"""KTO: preferences without pairs, from completions that are each labelled good or bad."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import Loss
from ..ops.preference import kto, kto_zero
from .chunked_loss import ChunkedLoss, with_aux
from .objective import Arrays, VocabularyModel
from .preference import PreferenceKind, reference_of


class Kto(PreferenceKind):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024), equation 8: a good completion should
    become likelier than the reference has it, by more than the policy has moved elsewhere; a bad
    one less likely.

    How far the policy has moved is its KL from the reference, estimated on prompts with
    completions of other prompts, over the microbatch. Reported per row: `kl`, `accuracy` (the sign
    of the reward agrees with the label), and the implicit rewards `beta (log p - log p_reference)`
    of good and of bad rows, each averaged over all rows.
    """

    kind: Literal["kto"] = "kto"
    requires: ClassVar[tuple[str, ...]] = (
        "tokens",
        "counted",
        "mismatched",
        "mismatched_counted",
        "label",
        "weights",
    )
    loss: Literal["kto", "apo_zero"] = "kto"
    """"apo_zero" compares with zero in place of the KL (D'Oosterlinck et al. 2024)."""
    desirable: float = Field(1.0, gt=0)
    """Weight of good completions; with n_good and n_bad rows, keep desirable · n_good within 1 to
    4/3 of undesirable · n_bad (section 4.2 of the paper)."""
    undesirable: float = Field(1.0, gt=0)
    """Weight of bad completions."""

    @property
    def couples_rows(self) -> str:
        return "The estimate of the KL is a mean over a microbatch." if self.loss == "kto" else ""

    def build(self) -> "KtoObjective":
        return KtoObjective(self)


class KtoObjective:
    """`(models, batch, ctx) -> Loss` per row, where models may have a "reference", and batch is
    that of the kind `unpaired`."""

    def __init__(self, config: Kto) -> None:
        self.config, self.head = config, ChunkedLoss.of(config)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        config, weights, label = self.config, batch["weights"], batch["label"]
        n = weights.sum()  # once: MLX 0.32 can't compile an output that is also computed elsewhere
        ratio = self._log_ratio(models, batch["tokens"], batch["counted"], ctx)
        kl, loss = mx.array(0.0), kto_zero
        if config.loss == "kto":
            mismatched = (batch["mismatched"], batch["mismatched_counted"])
            mismatched_ratio = mx.stop_gradient(self._log_ratio(models, *mismatched, Context()))
            mean = (mismatched_ratio * weights).sum() / mx.maximum(n, 1)
            kl, loss = mx.maximum(mean, 0.0), kto
        losses = loss(
            ratio,
            label,
            kl,
            beta=config.beta,
            desirable=config.desirable,
            undesirable=config.undesirable,
        )
        total = (losses * weights).sum()
        reward = config.beta * mx.stop_gradient(ratio)
        good = (label > 0) * weights
        parts = {
            "loss": mx.stop_gradient(total),
            "kl": kl * n,
            "accuracy": (((reward > 0) == (label > 0)) * weights).sum(),
            "reward_good": (reward * good).sum(),
            "reward_bad": (reward * (weights - good)).sum(),
        }
        return with_aux(total, n, parts, ctx)

    def _log_ratio(
        self,
        models: Mapping[str, VocabularyModel],
        tokens: mx.array,
        counted: mx.array,
        ctx: Context,
    ) -> mx.array:
        """The log-ratio of policy and reference of each row's counted tokens, `[B]`."""
        logps = self.head.sequence_log_probs(models["model"], tokens, counted, ctx)
        if self.config.reference is None:
            return logps
        with reference_of(models, self.config.reference) as reference:
            before = self.head.sequence_log_probs(reference, tokens, counted, Context())
        return logps - mx.stop_gradient(before)
