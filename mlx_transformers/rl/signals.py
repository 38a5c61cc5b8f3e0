"""Learning signals, slot `signal`: the arrays that an objective learns from, from rewards.

gae             advantages and returns by generalised advantage estimation, for `ppo`
group           advantages relative to the completions of one prompt, for `grpo`
leave_one_out   relative to the other completions of the prompt, for `rloo`
returns         discounted returns less a baseline, for `reinforce`
pairs           the best and the worst completion of a prompt, for `dpo` (online DPO)
best            the best completions of a prompt, for `clm` (best-of-n, expert iteration)
completions     all of them, for `distill` (on-policy) and `clm` (sequence-level distillation)
"""

from abc import abstractmethod
from typing import ClassVar, Literal

import mlx.core as mx
import numpy as np
from pydantic import Field

from ..core.errors import RunError
from ..ops.policy import discounted_returns, generalised_advantages, group_advantages, whiten
from ..recipe.config import Kind
from .scoring import Scored

Arrays = dict[str, np.ndarray]

POLICY = ("tokens", "counted", "old_logps", "advantages", "reward", "row_tokens", "weights")
"""Arrays of every policy gradient; `row_tokens` is filled in where steps are cut."""


class SignalKind(Kind):
    """A kind of learning signal."""

    gives: ClassVar[tuple[str, ...]] = POLICY
    """Names of the arrays of a batch."""
    least_group: ClassVar[int] = 1
    """Fewest completions of a prompt."""
    needs_values: ClassVar[bool] = False
    """Whether it reads the policy's value function."""
    needs_rewards: ClassVar[bool] = True
    """Whether it reads rewards."""
    needs_policy: ClassVar[bool] = True
    """Whether the completions must be the policy's own."""

    def rows(self, prompts: int, group: int) -> int:
        """Number of rows that a rollout gives."""
        return prompts * group

    @abstractmethod
    def arrays(self, scored: Scored) -> Arrays:
        """The arrays of all rows."""

    def held_out(self, scored: Scored) -> Arrays:
        """The arrays of an evaluation: rewards without advantages."""
        return policy_arrays(scored, np.zeros_like(scored.logps))


def policy_arrays(scored: Scored, advantages: np.ndarray) -> Arrays:
    """The arrays of a policy gradient."""
    found = {
        "tokens": scored.tokens,
        "counted": scored.counted,
        "old_logps": scored.logps * scored.counted,
        "advantages": (advantages * scored.counted).astype(np.float32),
        "reward": scored.rewards,
        "weights": np.ones(len(scored.rewards), np.float32),
    }
    if scored.reference_logps is not None:
        found["reference_logps"] = scored.reference_logps * scored.counted
    return found


class Gae(SignalKind):
    """Generalised advantage estimation (Schulman et al. 2015) on the reward at the last token and
    the KL at each, as in Ouyang et al. 2022, section C.4."""

    kind: Literal["gae"] = "gae"
    gives: ClassVar[tuple[str, ...]] = (*POLICY, "returns", "old_values")
    needs_values: ClassVar[bool] = True
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount γ."""
    lam: float = Field(0.95, ge=0, le=1)
    """Weight λ of longer estimates."""
    whiten: bool = True
    """Whether advantages are scaled to mean 0 and deviation 1 over the rollout."""
    whiten_rewards: bool = False
    """Whether the rewards of tokens are scaled to deviation 1 before."""

    def arrays(self, scored: Scored) -> Arrays:
        assert scored.values is not None, "the source has asked for values"
        mask, values = mx.array(scored.counted), mx.array(scored.values)
        rewards = mx.array(token_rewards(scored))
        if self.whiten_rewards:
            rewards = whiten(rewards, mask, shift=False)
        advantages, returns = generalised_advantages(
            rewards, values, mask, gamma=self.gamma, lam=self.lam
        )
        if self.whiten:
            advantages = whiten(advantages, mask)
        found = policy_arrays(scored, np.array(advantages))
        return found | {"returns": np.array(returns), "old_values": scored.values * scored.counted}

    def held_out(self, scored: Scored) -> Arrays:
        zeros = np.zeros_like(scored.logps)
        return policy_arrays(scored, zeros) | {"returns": zeros, "old_values": zeros}


class Group(SignalKind):
    """Rewards relative to the mean of the prompt's completions (GRPO, Shao et al. 2024)."""

    kind: Literal["group"] = "group"
    least_group: ClassVar[int] = 2
    scale: Literal["group", "batch", "none"] = "group"
    """The standard deviation that divides: the group's (GRPO), the rollout's, or none (Dr. GRPO,
    Liu et al. 2025)."""

    def arrays(self, scored: Scored) -> Arrays:
        kind = {"group": "group_norm", "batch": "batch_norm", "none": "group_mean"}[self.scale]
        return policy_arrays(scored, of_groups(scored, kind))


class LeaveOneOut(SignalKind):
    """Rewards less the mean of the prompt's other completions (RLOO, Ahmadian et al. 2024)."""

    kind: Literal["leave_one_out"] = "leave_one_out"
    least_group: ClassVar[int] = 2
    whiten: bool = False
    """Whether advantages are scaled to mean 0 and deviation 1 over the rollout."""

    def arrays(self, scored: Scored) -> Arrays:
        found = of_groups(scored, "rloo")
        if self.whiten:
            found = (found - found.mean()) / (found.std(ddof=1) + 1e-8)
        return policy_arrays(scored, found)


class Returns(SignalKind):
    """Discounted sums of later rewards less a baseline (REINFORCE, Williams 1992)."""

    kind: Literal["returns"] = "returns"
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount γ."""
    baseline: Literal["mean", "none"] = "mean"
    """Baseline subtracted from the returns: their mean over the rollout's tokens, or none."""
    whiten: bool = False
    """Whether returns are scaled to deviation 1 over the rollout."""

    def arrays(self, scored: Scored) -> Arrays:
        mask = mx.array(scored.counted)
        found = discounted_returns(mx.array(token_rewards(scored)), mask, self.gamma)
        if self.whiten:
            found = whiten(found, mask, shift=self.baseline == "mean")
        elif self.baseline == "mean":
            found = found - (found * mask).sum() / mx.maximum(mask.sum(), 1)
        return policy_arrays(scored, np.array(found))


class Pairs(SignalKind):
    """The best and the worst completion of each prompt, as a preference (online DPO, Guo et al.
    2024). Prompts whose completions have one reward have weight 0."""

    kind: Literal["pairs"] = "pairs"
    gives: ClassVar[tuple[str, ...]] = (
        "chosen",
        "chosen_counted",
        "rejected",
        "rejected_counted",
        "reference_chosen",
        "reference_rejected",
        "margin",
        "weights",
    )
    least_group: ClassVar[int] = 2

    def rows(self, prompts: int, group: int) -> int:
        return prompts

    def arrays(self, scored: Scored) -> Arrays:
        by_group = scored.penalised.reshape(-1, scored.group)
        first = np.arange(len(by_group)) * scored.group
        sides = {
            "chosen": scored.take(first + by_group.argmax(axis=1)),
            "rejected": scored.take(first + by_group.argmin(axis=1)),
        }
        gap = by_group.max(axis=1) - by_group.min(axis=1)
        found: Arrays = {
            "weights": (gap > 0).astype(np.float32),
            "margin": np.zeros(len(gap), np.float32),
        }
        for side, rows in sides.items():
            before = rows.reference_logps
            before = np.zeros_like(rows.logps) if before is None else before
            found |= {
                side: rows.tokens,
                f"{side}_counted": rows.counted,
                f"reference_{side}": (before * rows.counted).sum(axis=1),
            }
        return found

    def held_out(self, scored: Scored) -> Arrays:
        return self.arrays(scored)


class Best(SignalKind):
    """The best completions of each prompt, as rows of supervised fine-tuning: best-of-n, and with
    `least` expert iteration on right answers (STaR, Zelikman et al. 2022). Rows whose reward is
    below `least` are replaced by rows that reach it."""

    kind: Literal["best"] = "best"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "weights")
    needs_policy: ClassVar[bool] = False
    keep: int = Field(1, ge=1)
    """Completions of a prompt that are kept."""
    least: float | None = None
    """Least reward of a row; none keeps the best whatever their reward."""

    def rows(self, prompts: int, group: int) -> int:
        return prompts * min(self.keep, group)

    def arrays(self, scored: Scored) -> Arrays:
        by_group = scored.penalised.reshape(-1, scored.group)
        order = np.argsort(-by_group, axis=1, kind="stable")[:, : self.keep]
        rows = (order + np.arange(len(by_group))[:, None] * scored.group).reshape(-1)
        if self.least is not None:
            good = scored.rewards[rows] >= self.least
            if not good.any():
                raise RunError(
                    f"No completion of a rollout has a reward of {self.least} or more "
                    f"(source.signal.least): the best has {scored.rewards.max():.4g}. Begin with "
                    "a better model, sample more (source.group, source.prompts), or lower it."
                )
            passing = rows[good]
            rows = np.where(good, rows, passing[np.arange(len(rows)) % len(passing)])
        return {"tokens": scored.tokens[rows], "weights": scored.counted[rows]}

    def held_out(self, scored: Scored) -> Arrays:
        return {"tokens": scored.tokens, "weights": scored.counted}


class Completions(SignalKind):
    """All completions as they are, as rows to learn from.

    With objective `distill` the policy learns the teacher's distribution on texts of its own
    (on-policy distillation; Agarwal et al. 2023, GKD, with its fraction λ of 1). With `clm` and a
    teacher as `source.writer` it learns the teacher's texts (Kim and Rush 2016).
    """

    kind: Literal["completions"] = "completions"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "weights")
    needs_rewards: ClassVar[bool] = False
    needs_policy: ClassVar[bool] = False

    def arrays(self, scored: Scored) -> Arrays:
        return {"tokens": scored.tokens, "weights": scored.counted}

    def held_out(self, scored: Scored) -> Arrays:
        return self.arrays(scored)


def token_rewards(scored: Scored) -> np.ndarray:
    """The reward of each token: less the weighted KL everywhere, and at the last counted token the
    sequence's reward, `[N, T]`."""
    counted = scored.counted
    found: np.ndarray = -scored.kl_weight * scored.kl * counted
    last = np.where(counted > 0, np.arange(counted.shape[1]), 0).max(axis=1)
    found[np.arange(len(found)), last] += scored.rewards
    return found.astype(np.float32)


def of_groups(scored: Scored, kind: str) -> np.ndarray:
    """Advantages of the completions of each prompt, spread over their tokens, `[N, T]`."""
    found = np.array(group_advantages(mx.array(scored.penalised), scored.group, kind))
    return np.broadcast_to(found[:, None], scored.logps.shape).astype(np.float32)
