"""Policy gradients on sampled completions: PPO, GRPO and its relatives, RLOO, REINFORCE."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import mlx.core as mx
from pydantic import Field, model_validator

from ..core.context import Context
from ..core.loss import Best, Loss, Unit
from ..core.task import Task
from ..ops.policy import (
    clipped,
    clipped_surrogate,
    clipped_weight,
    counted,
    kl_estimate,
    log_ratio,
    soft_surrogate,
    value_loss,
)
from .chunked_loss import ChunkedLoss, of_tokens, with_aux
from .objective import ActorCritic, Arrays, ChunkedKind, VocabularyModel

Estimator = Literal["k1", "k2", "k3", "abs", "k1+", "k3+", "abs+"]
Average = Literal["sequence", "token", "length"]


class PolicyKind(ChunkedKind):
    """The table of a policy gradient on the batches of the source `rollouts`."""

    requires: ClassVar[tuple[str, ...]] = (
        "tokens",
        "counted",
        "old_logps",
        "advantages",
        "reward",
        "row_tokens",
        "weights",
    )
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    unit: ClassVar[Unit] = "text"
    best: ClassVar[Best] = Best("val_reward", "max")
    temperature: float = Field(1.0, gt=0)
    """Divides the logits; the same as source.temperature, so that the policy is what sampled."""


class Reinforce(PolicyKind):
    """`-log p(token) · advantage`, summed over a completion's tokens; Williams 1992."""

    kind: Literal["reinforce"] = "reinforce"
    average: Average = "token"
    """"token": the mean over all tokens; "sequence": over completions, of the mean over tokens."""

    def build(self) -> "ReinforceObjective":
        return ReinforceObjective(self)


class Rloo(PolicyKind):
    """`-r · advantage` with r the ratio of a whole completion's probability and that at sampling,
    clipped as in PPO; Ahmadian et al. 2024, in the form of TRL."""

    kind: Literal["rloo"] = "rloo"
    clip: float = Field(0.2, gt=0)
    """Clip range ε of the ratio: beyond 1 ± ε it has no gradient."""

    def build(self) -> "GrpoObjective":
        return GrpoObjective(self, "sum", "sequence", ClippedRatio(self.clip, self.clip))


class Grpo(PolicyKind):
    """The clipped ratio of PPO with advantages of groups; Shao et al. 2024, equation 3.

    "grpo": the mean over completions of the mean over tokens. "dapo": the mean over all tokens (Yu
    et al. 2025). "dr_grpo": the sum over tokens by the longest length (Liu et al. 2025). "gspo":
    the ratio of a whole completion's mean log-probability (Zheng et al. 2025). "cispo": the
    log-probability weighted by the bounded ratio, so that every token has a gradient; averaged as
    "dapo" (MiniMax-M1, MiniMax 2025, equation 4). "sapo": a sigmoid of the ratio in the place of
    clipping; averaged as "grpo" (Gao et al. 2025).
    """

    kind: Literal["grpo"] = "grpo"
    loss: Literal["grpo", "dapo", "dr_grpo", "gspo", "cispo", "sapo"] = "grpo"
    """The ratio, and the mean of tokens."""
    clip_low: float = Field(0.2, gt=0)
    """Lower clip range ε of the ratio: below 1 - ε it has no gradient; not with cispo and sapo."""
    clip_high: float = Field(0.2, gt=0)
    """Upper clip range ε of the ratio: above 1 + ε it has no gradient; 0.28 in DAPO. The bound of
    the weight in cispo; not with sapo."""
    delta: float | None = Field(None, gt=1)
    """Bound of the ratio for negative advantages too (two-sided clipping, INTELLECT-2, Prime
    Intellect 2025, equation 3); none means no such bound. Not with cispo and sapo."""
    tau_positive: float = Field(1.0, gt=0)
    """Temperature τ of the sigmoid of sapo where the advantage is above 0."""
    tau_negative: float = Field(1.05, gt=0)
    """The same elsewhere."""
    beta: float = Field(0.0, ge=0)
    """Weight of the KL from the reference in the loss; source.reference names the reference."""
    kl: Estimator = "k3"
    """Its estimator (Schulman 2020)."""

    @model_validator(mode="after")
    def _keys_of_the_loss(self) -> "Grpo":
        unread = {"cispo": {"clip_low", "delta"}, "sapo": {"clip_low", "clip_high", "delta"}}
        foreign = unread.get(self.loss, set())
        if self.loss != "sapo":
            foreign = foreign | {"tau_positive", "tau_negative"}
        for name in sorted(foreign):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"loss '{self.loss}' doesn't read objective.{name}: unset it")
        return self

    def build(self) -> "GrpoObjective":
        level = "sequence" if self.loss == "gspo" else "token"
        averages: dict[str, Average] = {"dapo": "token", "cispo": "token", "dr_grpo": "length"}
        average = averages.get(self.loss, "sequence")
        return GrpoObjective(self, level, average, self._surrogate(), beta=self.beta, kl=self.kl)

    def _surrogate(self) -> "Surrogate":
        if self.loss == "cispo":
            return BoundedWeight(self.clip_high)
        if self.loss == "sapo":
            return SoftGate(self.tau_positive, self.tau_negative)
        return ClippedRatio(self.clip_low, self.clip_high, self.delta)


class Ppo(PolicyKind):
    """PPO (Schulman et al. 2017), equation 9: the clipped ratio of each token, and the clipped
    error of the value function, a pool of kind `scalar` on the policy's features."""

    kind: Literal["ppo"] = "ppo"
    requires: ClassVar[tuple[str, ...]] = (*PolicyKind.requires, "returns", "old_values")
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {"pool": ("scalar",)}
    clip: float = Field(0.2, gt=0)
    """Clip range ε of the ratio: beyond 1 ± ε it has no gradient."""
    value_clip: float | None = Field(0.2, gt=0)
    """Clip range of values around those at sampling; none means no clipping."""
    value_weight: float = Field(0.1, gt=0)
    """Weight of the value function's loss."""

    def build(self) -> "PpoObjective":
        return PpoObjective(self)


class Surrogate(Protocol):
    """The loss of each token, or of each completion, from the ratio of policy and sampler."""

    def __call__(self, ratio: mx.array, advantages: mx.array, logps: mx.array) -> mx.array:
        """The loss, of the shape of `ratio`."""

    def clipped(self, ratio: mx.array, advantages: mx.array) -> mx.array | None:
        """1 where the ratio is clipped; None where there is no clipping."""


@dataclass(frozen=True)
class ClippedRatio:
    """`-min(r A, clip(r, 1 - low, 1 + high) A)` (PPO, Schulman et al. 2017, equation 7)."""

    low: float
    high: float
    delta: float | None = None

    def __call__(self, ratio: mx.array, advantages: mx.array, logps: mx.array) -> mx.array:
        bounds = {"low": self.low, "high": self.high}
        return clipped_surrogate(ratio, advantages, **bounds, delta=self.delta)

    def clipped(self, ratio: mx.array, advantages: mx.array) -> mx.array | None:
        return clipped(ratio, advantages, low=self.low, high=self.high)


@dataclass(frozen=True)
class BoundedWeight:
    """`-min(r, 1 + high) A log p`, the ratio without a gradient (CISPO, MiniMax 2025)."""

    high: float

    def __call__(self, ratio: mx.array, advantages: mx.array, logps: mx.array) -> mx.array:
        return clipped_weight(ratio, advantages, logps, high=1 + self.high)

    def clipped(self, ratio: mx.array, advantages: mx.array) -> mx.array | None:
        return (ratio > 1 + self.high).astype(mx.float32)


@dataclass(frozen=True)
class SoftGate:
    """`-4 sigmoid(τ (r - 1)) / τ · A` (SAPO, Gao et al. 2025)."""

    positive: float
    negative: float

    def __call__(self, ratio: mx.array, advantages: mx.array, logps: mx.array) -> mx.array:
        return soft_surrogate(ratio, advantages, positive=self.positive, negative=self.negative)

    def clipped(self, ratio: mx.array, advantages: mx.array) -> mx.array | None:
        return None


class ReinforceObjective:
    """`(models, batch, ctx) -> Loss` per completion, of the batches of `rollouts`."""

    def __init__(self, config: Reinforce) -> None:
        self.config, self.head = config, tempered_head(config)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        logps = self.head.token_log_probs(models["model"], batch["tokens"], ctx)
        losses = row_average(-logps * batch["advantages"], batch, self.config.average)
        return weighted_sums(losses, losses, batch, {}, ctx)


class GrpoObjective:
    """`(models, batch, ctx) -> Loss` per completion, of the batches of `rollouts`."""

    def __init__(
        self,
        config: PolicyKind,
        level: str,
        average: Average,
        surrogate: Surrogate,
        *,
        beta: float = 0.0,
        kl: Estimator = "k3",
    ) -> None:
        self.head, self.level, self.average = tempered_head(config), level, average
        self.surrogate, self.beta, self.kl = surrogate, beta, kl

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        mask = batch["counted"]
        logps = self.head.token_log_probs(models["model"], batch["tokens"], ctx)
        ratio = mx.exp(log_ratio(logps, batch["old_logps"], mask, self.level))
        advantages = batch["advantages"]
        if self.level != "token":  # one for the whole completion
            advantages = advantages.sum(axis=1, keepdims=True) / row_counts(mask)
        loss = self.surrogate(ratio, advantages, logps)
        parts = {}
        cut = self.surrogate.clipped(mx.stop_gradient(ratio), advantages)
        if cut is not None:
            cut = mx.broadcast_to(cut, mask.shape)
            parts["clip_fraction"] = row_average(cut, batch, "sequence")
        if self.level == "token":
            losses = row_average(loss, batch, self.average)
        else:
            losses = loss[:, 0]
        total = losses
        if self.beta:
            kl = kl_estimate(logps, batch["reference_logps"], self.kl)
            penalty = row_average(kl, batch, self.average)
            parts["kl"] = row_average(mx.stop_gradient(kl), batch, "sequence")
            total = losses + self.beta * penalty
        parts["moved"] = kl_from_sampler(logps, batch)
        return weighted_sums(total, losses, batch, parts, ctx)


class PpoObjective:
    """`(models, batch, ctx) -> Loss` per completion, of the batches of `rollouts`."""

    def __init__(self, config: Ppo) -> None:
        self.config, self.head = config, tempered_head(config)

    def __call__(self, models: Mapping[str, ActorCritic], batch: Arrays, ctx: Context) -> Loss:
        config, model, mask = self.config, models["model"], batch["counted"]
        inputs = {"tokens": batch["tokens"][:, :-1]}
        x = model.features(model.embedded(inputs, ctx), ctx)
        logps = self.head.log_probs(model, model.transform(x), batch["tokens"][:, 1:])
        values = of_tokens(model.token_values(x, ctx), mask).astype(mx.float32)
        ratio = mx.exp(log_ratio(logps, batch["old_logps"], mask))
        bounds = {"low": config.clip, "high": config.clip}
        losses = row_average(
            clipped_surrogate(ratio, batch["advantages"], **bounds), batch, "token"
        )
        value_losses = value_loss(
            values, batch["old_values"], batch["returns"], clip=config.value_clip
        )
        critic = row_average(value_losses, batch, "token")
        cut = clipped(mx.stop_gradient(ratio), batch["advantages"], **bounds)
        far = mx.abs(mx.stop_gradient(values) - batch["old_values"]) > (config.value_clip or 1e30)
        parts = {
            "clip_fraction": row_average(cut, batch, "sequence"),
            "value_clip_fraction": row_average(far.astype(mx.float32), batch, "sequence"),
            "value_loss": mx.stop_gradient(critic),
            "moved": kl_from_sampler(logps, batch),
        }
        return weighted_sums(losses + config.value_weight * critic, losses, batch, parts, ctx)


def tempered_head(config: PolicyKind) -> ChunkedLoss:
    """The head whose logits are divided by the temperature of the policy."""
    return replace(ChunkedLoss.of(config), temperature=config.temperature)


def row_counts(mask: mx.array) -> mx.array:
    """Counted tokens of each row, at least 1, `[B, 1]`."""
    return mx.maximum(mask.sum(axis=1, keepdims=True), 1)


def row_average(x: mx.array, batch: Arrays, average: Average) -> mx.array:
    """The aggregation of numbers of tokens `[B, T]` to one of each row `[B]`, whose mean over the
    rows of a step is the mean that `average` names."""
    mask = batch["counted"]
    total = counted(x, mask).sum(axis=1)
    if average == "sequence":
        return total / row_counts(mask)[:, 0]
    if average == "token":
        return total / mx.maximum(batch["row_tokens"], 1e-6)
    return total / mask.shape[1]


def kl_from_sampler(logps: mx.array, batch: Arrays) -> mx.array:
    """Estimate of the KL of the policy from the one that sampled, per token, `[B]`."""
    kl = kl_estimate(batch["old_logps"], mx.stop_gradient(logps), "k3")
    return row_average(kl, batch, "sequence")


def weighted_sums(
    total: mx.array, policy: mx.array, batch: Arrays, parts: dict[str, mx.array], ctx: Context
) -> Loss:
    """The loss and its parts, summed over rows with the weights of the batch.

    Args:
        total: the loss of each row that is differentiated, `[B]`.
        policy: the part of it that is reported as "loss".
        batch: has `weights` and `reward`, `[B]`.
        parts: further numbers of each row to report by name, `[B]`.
        ctx: of the forward pass; has the layers' auxiliary losses and statistics.
    """
    weights = batch["weights"]
    parts = {"loss": mx.stop_gradient(policy), "reward": batch["reward"], **parts}
    sums = {name: (value * weights).sum() for name, value in parts.items()}
    return with_aux((total * weights).sum(), weights.sum(), sums, ctx)
