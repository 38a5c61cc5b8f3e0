"""Rollouts, kind of the slot `source`: the policy completes prompts, rewards judge it, and a
learning signal makes batches of them.

Ouyang et al. 2022, section 3.5; Shao et al. 2024, section 4.1.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.errors import RecipeError
from ..data.batches.prompts import Prompts
from ..data.kinds import BatchKind
from ..objectives.objective import run_of_reference
from ..recipe.slot import Slot
from ..trainer.source import Batch, RunParts, SourceKind
from .feed import EvalRollouts, RolloutFeed
from .revise import Revise
from .rewards import RewardKind
from .signals import SignalKind


class Rollouts(SourceKind):
    """Completions of the live policy: `prompts` prompts, each completed `group` times, are rewarded
    and turned into batches; `epochs` passes are made over them before the next rollout.

    A rollout depends on the seed, on its number and on the weights alone. Evaluation completes the
    prompts of the validation split once each: the policy does, or the `writer`, so that the
    validation loss of a student is that on its teacher's texts.
    """

    generates: ClassVar[bool] = True
    kind: Literal["rollouts"] = "rollouts"
    prompts: int = Field(ge=1)
    """Prompts of a rollout."""
    group: int = Field(1, ge=1)
    """Completions of each prompt."""
    rows: int = Field(32, ge=1)
    """Completions that are sampled at once; the place of a finished one is taken by the next."""
    max_tokens: int = Field(ge=1)
    """The most tokens of a completion."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature; objective.temperature is the same."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Probability of the nucleus that is sampled; 1 samples from all tokens."""
    top_k: int = Field(0, ge=0)
    """Number of most probable tokens that are sampled; 0 samples from all."""
    eval_temperature: float = Field(0.0, ge=0)
    """Sampling temperature of evaluations; 0 takes the most probable token."""
    epochs: int = Field(1, ge=1)
    """Passes over a rollout."""
    rewards: dict[str, Annotated[RewardKind, Slot("reward")]] = Field(default_factory=dict)
    """The rewards by name; their weighted sum is the reward of a completion."""
    revise: Revise | None = None
    """A constitution by which the policy criticises and revises its completions before they are
    rewarded, for signal "best"; none leaves them as they are."""
    signal: Annotated[SignalKind, Slot("signal")]
    """The arrays that the objective learns from."""
    writer: str | None = None
    """Run that completes the prompts in place of the policy, by name or folder; its best
    checkpoint. A teacher here, signal "completions" and objective "clm" are sequence-level
    distillation (Kim and Rush 2016). Unset: the policy."""
    reference: str | None = None
    """Run of the reference policy, by name or folder; its best checkpoint. Its log-probabilities
    are computed once per rollout. "adapter_off" is the policy without its adapters. Unset: none."""
    kl: float = Field(0.0, ge=0)
    """Coefficient of the KL from the reference in the reward, per token."""
    kl_estimator: Literal["k1", "k2", "k3", "abs"] = "k1"
    """Its estimator (Schulman 2020)."""
    kl_target: float | None = Field(None, gt=0)
    """KL of a completion that an adaptive coefficient aims at (Ziegler et al. 2019, section 2.2);
    none keeps the coefficient fixed."""
    kl_horizon: int = Field(10_000, ge=1)
    """Completions over which the adaptive coefficient moves."""
    score_clip: float | None = Field(None, gt=0)
    """Rewards are cut at plus and minus this before the KL is subtracted."""
    missing_eos_penalty: float = Field(0.0, ge=0)
    """Subtracted from the reward of a completion that the limit ended."""
    on_error: Literal["stop", "zero"] = "stop"
    """Response to a reward that fails, isn't finite or has the wrong count: stop the run, or take
    0."""
    on_flat: Literal["keep", "stop"] = "keep"
    """Response to a rollout in which all completions of each prompt have one reward, so that
    advantages of groups are zero: train on, or stop the run."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "Rollouts":
        least = self.signal.least_group
        if self.group < least:
            raise ValueError(
                f"signal '{self.signal.kind}' compares completions of one prompt: set group to "
                f"{least} or more."
            )
        if not self.rewards and self.revise is None and self.signal.needs_rewards:
            raise ValueError("completions have no reward: give one under source.rewards.")
        if self.revise is not None and self.signal.kind != "best":
            raise ValueError(
                f"revised completions are not the policy's own, so signal '{self.signal.kind}' "
                "can't learn from them: set signal.kind = 'best', and objective.kind = 'clm'."
            )
        if self.writer is not None and self.signal.needs_policy:
            raise ValueError(
                f"completions of source.writer are not the policy's own, so signal "
                f"'{self.signal.kind}' can't learn from them: set signal.kind = 'completions' or "
                "'best', and objective.kind = 'clm' or 'distill'."
            )
        if not self.signal.needs_rewards:
            self._refuse_unread_rewards()
        if self.kl and self.reference is None:
            raise ValueError("kl is measured from a reference: set reference to its run.")
        if self.kl_target is not None and not self.kl:
            raise ValueError("kl_target adapts the coefficient kl: set kl to its first value.")
        return self

    def _refuse_unread_rewards(self) -> None:
        """
        Raises:
            ValueError: a field changes rewards that the signal doesn't read.
        """
        for name in ("score_clip", "missing_eos_penalty", "kl", "reference"):
            if getattr(self, name):
                raise ValueError(
                    f"{name} changes the rewards, which signal '{self.signal.kind}' doesn't read: "
                    "unset it."
                )

    def gives(self, batch: BatchKind) -> tuple[str, ...]:
        if not isinstance(batch, Prompts):
            raise ValueError(
                f"source 'rollouts' completes prompts: set data.batch.kind = 'prompts', not "
                f"'{batch.kind}'."
            )
        before = () if self.reference is None else ("reference_logps",)
        return (*self.signal.gives, *before)

    def frozen(self) -> dict[str, str]:
        models = run_of_reference(self.reference)
        models |= {} if self.writer is None else {"writer": self.writer}
        runs = {f"rewards.{name}": kind.frozen() for name, kind in self.rewards.items()}
        return models | {role: run for role, run in runs.items() if run is not None}

    def feed(self, parts: RunParts, cursor: Mapping[str, Any]) -> RolloutFeed:
        rows, size = self.signal.rows(self.prompts, self.group), parts.train.batch_size
        if parts.ranks.processes > 1:
            raise RecipeError("source 'rollouts' runs in one process: start one.")
        if rows % size:
            raise RecipeError(
                f"A rollout of source.prompts = {self.prompts} prompts gives {rows} rows, which "
                f"train.batch_size = {size} doesn't divide: change one of them."
            )
        return RolloutFeed(self, parts, cursor)

    def held_out(self, parts: RunParts, batches: int | None) -> "EvalRollouts | Iterator[Batch]":
        return EvalRollouts(self, parts, batches)
