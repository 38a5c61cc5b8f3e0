"""Losses of preference learning on log-probabilities: DPO and its relatives, KTO, ORPO, CPO, SimPO.

Every function takes log-probabilities of sequences, sums over their counted tokens in nats, `[B]`,
and returns one loss per row, `[B]`. Where published code and paper differ, the numbers are those
of TRL, as each docstring says.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import mlx.core as mx
import mlx.nn as nn

from ..core.shapes import B


@dataclass(frozen=True)
class Scores:
    """The inputs of a loss of pairs, each `[B]`.

    Attributes:
        chosen: score of each chosen sequence, its log-ratio where the divergence is the reverse KL.
        rejected: the same of the rejected sequences.
        chosen_ratio: log-ratio of policy and reference of the chosen sequences.
        rejected_ratio: the same of the rejected ones.
        policy_margin: log-probability of chosen less rejected under the policy.
        reference_margin: the same under the reference.
        chosen_length: counted tokens of the chosen sequences.
        rejected_length: the same of the rejected ones.
        chosen_logp: log-probability of the chosen sequences under the policy.
    """

    chosen: B
    rejected: B
    chosen_ratio: B
    rejected_ratio: B
    policy_margin: B
    reference_margin: B
    chosen_length: mx.array
    rejected_length: mx.array
    chosen_logp: B

    @property
    def margin(self) -> B:
        """How much higher the chosen sequence scores."""
        return self.chosen - self.rejected

    @property
    def mean_margin(self) -> B:
        """The same of scores per token."""
        return self.chosen / self.chosen_length - self.rejected / self.rejected_length

    def filler_last(self, real: mx.array) -> "Scores":
        """The same with the highest score for pairs where `real [B]` is False, on both sides, so
        that the losses of sorted scores compare filler with filler, in the last ranks."""

        def ranked(x: B) -> B:
            return mx.where(real, x, 1e30)

        return replace(
            self,
            chosen_ratio=ranked(self.chosen_ratio),
            rejected_ratio=ranked(self.rejected_ratio),
            policy_margin=ranked(self.policy_margin),
            reference_margin=ranked(self.reference_margin),
        )


@dataclass(frozen=True)
class Preference:
    """Settings of a loss of pairs.

    Attributes:
        beta: strength of the bond to the reference; of `ipo`, the inverse of twice the margin.
        label_smoothing: share of pairs whose labels are taken to be swapped.
        tau: temperature of the modulation in `discopop`.
        shift: mean reward that `bco_pair` subtracts, a running one of the batches before.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    tau: float = 0.05
    shift: float | mx.array = 0.0


def _log_sigmoid(x: mx.array) -> mx.array:
    return -nn.softplus(-x)


def sigmoid(s: Scores, p: Preference) -> B:
    """`-log sigmoid(beta margin)`: DPO (Rafailov et al. 2023), equation 7; with label smoothing the
    conservative DPO of Mitchell 2023."""
    return _smoothed(p.beta * s.margin, p.label_smoothing)


def sigmoid_norm(s: Scores, p: Preference) -> B:
    """DPO on scores per token: length-normalised DPO (Tulu 3, Lambert et al. 2024, section 5.1)."""
    return _smoothed(p.beta * s.mean_margin, p.label_smoothing)


def _smoothed(x: mx.array, share: float) -> mx.array:
    loss = -_log_sigmoid(x)
    return loss if share == 0.0 else (1 - share) * loss - share * _log_sigmoid(-x)


def hinge(s: Scores, p: Preference) -> B:
    """`max(0, 1 - beta margin)`: SLiC (Zhao et al. 2023), as in RSO (Liu et al. 2023)."""
    return nn.relu(1 - p.beta * s.margin)


def ipo(s: Scores, p: Preference) -> B:
    """`(margin per token - 1 / (2 beta))^2`: IPO (Azar et al. 2023), equation 17; per token as TRL
    has it, in the paper it is the whole margin."""
    return mx.square(s.mean_margin - 1 / (2 * p.beta))


def exo_pair(s: Scores, p: Preference) -> B:
    """Reverse KL from the smoothed preference to the policy's: EXO (Ji et al. 2024), equation 16.

    Raises:
        ValueError: no label smoothing; the preference without it has no logarithm.
    """
    share = p.label_smoothing
    if not 0.0 < share < 1.0:
        raise ValueError("exo_pair needs a label_smoothing between 0 and 1, such as 1e-3.")
    x = p.beta * s.margin
    above, below = mx.log(mx.array(1 - share)), mx.log(mx.array(share))
    return mx.sigmoid(x) * (_log_sigmoid(x) - above) + mx.sigmoid(-x) * (_log_sigmoid(-x) - below)


def nca_pair(s: Scores, p: Preference) -> B:
    """Noise contrastive alignment of pairs (Chen et al. 2024), equation 9."""
    chosen, rejected = p.beta * s.chosen_ratio, p.beta * s.rejected_ratio
    chosen_term = _log_sigmoid(chosen)
    return -chosen_term - 0.5 * _log_sigmoid(-chosen) - 0.5 * _log_sigmoid(-rejected)


def robust(s: Scores, p: Preference) -> B:
    """DPO without the bias of swapped labels (Chowdhury et al. 2024), equation 12.

    Raises:
        ValueError: half of the labels or more are swapped.
    """
    if not 0.0 <= p.label_smoothing < 0.5:
        raise ValueError("robust needs a label_smoothing below 0.5.")
    x, share = p.beta * s.margin, p.label_smoothing
    clean, swapped = -_log_sigmoid(x), -_log_sigmoid(-x)
    return ((1 - share) * clean - share * swapped) / (1 - 2 * share)


def bco_pair(s: Scores, p: Preference) -> B:
    """Binary classifier optimisation of pairs (Jung et al. 2024), equation 7."""
    chosen, rejected = p.beta * s.chosen_ratio, p.beta * s.rejected_ratio
    return -_log_sigmoid(chosen - p.shift) - _log_sigmoid(p.shift - rejected)


def sppo_hard(s: Scores, p: Preference) -> B:
    """Self-play preference optimisation with hard labels (Wu et al. 2024), equation 4.7."""
    goal = 0.5 / p.beta
    return mx.square(s.chosen_ratio - goal) + mx.square(s.rejected_ratio + goal)


def aot(s: Scores, p: Preference) -> B:
    """Alignment by optimal transport of paired data (Melnyk et al. 2024): sorted margins of policy
    and reference are compared rank by rank."""
    x = p.beta * (mx.sort(s.policy_margin) - mx.sort(s.reference_margin))
    return _smoothed(x, p.label_smoothing)


def aot_unpaired(s: Scores, p: Preference) -> B:
    """The same for unpaired data: sorted log-ratios of chosen and rejected sequences."""
    x = p.beta * (mx.sort(s.chosen_ratio) - mx.sort(s.rejected_ratio))
    return _smoothed(x, p.label_smoothing)


def apo_zero(s: Scores, p: Preference) -> B:
    """Anchored preference optimisation, chosen up and rejected down (D'Oosterlinck et al. 2024),
    equation 7."""
    return 1 - mx.sigmoid(p.beta * s.chosen_ratio) + mx.sigmoid(p.beta * s.rejected_ratio)


def apo_down(s: Scores, p: Preference) -> B:
    """Anchored preference optimisation, both down and rejected further, equation 8."""
    difference = s.chosen_ratio - s.rejected_ratio
    return mx.sigmoid(p.beta * s.chosen_ratio) + 1 - mx.sigmoid(p.beta * difference)


def discopop(s: Scores, p: Preference) -> B:
    """Log-ratio modulated loss found by a language model (Lu et al. 2024), equation 5, with TRL's
    `beta margin / tau` in the modulation."""
    x = p.beta * s.margin
    mix = mx.sigmoid(x / p.tau)
    return (1 - mix) * -_log_sigmoid(x) + mix * mx.exp(-x)


def sft(s: Scores, p: Preference) -> B:
    """Negative log-likelihood of the chosen sequences per token of the batch, as a term beside
    others: its mean over rows is the mean over tokens."""
    return -s.chosen_logp * s.chosen_length.size / s.chosen_length.sum()


LOSSES: Mapping[str, Callable[[Scores, Preference], B]] = MappingProxyType(
    {
        loss.__name__: loss
        for loss in (
            sigmoid,
            sigmoid_norm,
            hinge,
            ipo,
            exo_pair,
            nca_pair,
            robust,
            bco_pair,
            sppo_hard,
            aot,
            aot_unpaired,
            apo_zero,
            apo_down,
            discopop,
            sft,
        )
    }
)
"""Losses of pairs by TRL's names."""


def divergence_score(log_ratio: B, kind: str, alpha: float = 1.0) -> B:
    """The derivative f' of an f-divergence at the ratio of policy and reference, with f'(1) = 0:
    f-DPO (Wang et al. 2023), table 1.

    Args:
        log_ratio: of each sequence, `[B]`.
        kind: "reverse_kl", "forward_kl", "js_divergence" or "alpha_divergence".
        alpha: order of the last; 1 is the reverse KL.

    Raises:
        ValueError: another kind.
    """
    if kind == "reverse_kl" or (kind == "alpha_divergence" and abs(alpha - 1) < 1e-6):
        return log_ratio
    if kind == "forward_kl":
        return 1 - mx.exp(-log_ratio)
    if kind == "js_divergence":
        return math.log(2) + _log_sigmoid(log_ratio)
    if kind == "alpha_divergence":
        return (mx.exp((alpha - 1) * log_ratio) - 1) / (alpha - 1)
    raise ValueError(f"There is no divergence {kind!r}: reverse_kl, forward_kl, js_divergence, ...")


@dataclass(frozen=True)
class Pairs:
    """Log-probabilities of pairs and counted tokens, each `[B]`; the reference's are zero for a
    loss without a reference."""

    chosen: B
    rejected: B
    reference_chosen: B
    reference_rejected: B
    chosen_length: mx.array
    rejected_length: mx.array
    divergence: str = "reverse_kl"
    alpha: float = 1.0

    def per_token(self) -> "Pairs":
        """The same with means over tokens in place of sums, and lengths of 1."""
        good, bad = mx.maximum(self.chosen_length, 1), mx.maximum(self.rejected_length, 1)
        return replace(
            self,
            chosen=self.chosen / good,
            rejected=self.rejected / bad,
            reference_chosen=self.reference_chosen / good,
            reference_rejected=self.reference_rejected / bad,
            chosen_length=mx.ones_like(good),
            rejected_length=mx.ones_like(bad),
        )

    def scores(self) -> Scores:
        """The scores that losses of pairs read."""
        good, bad = self.chosen - self.reference_chosen, self.rejected - self.reference_rejected
        return Scores(
            divergence_score(good, self.divergence, self.alpha),
            divergence_score(bad, self.divergence, self.alpha),
            good,
            bad,
            self.chosen - self.rejected,
            self.reference_chosen - self.reference_rejected,
            mx.maximum(self.chosen_length, 1),
            mx.maximum(self.rejected_length, 1),
            self.chosen,
        )


def kto(
    log_ratio: B,
    label: mx.array,
    kl: mx.array,
    *,
    beta: float,
    desirable: float,
    undesirable: float,
) -> B:
    """KTO (Ethayarajh et al. 2024), equation 8, on unpaired sequences.

    Args:
        log_ratio: of policy and reference, `[B]`.
        label: 1 for a desirable sequence, 0 for an undesirable one, `[B]`.
        kl: estimate of the policy's KL from the reference, a scalar without gradient.
        beta: risk aversion.
        desirable: weight of desirable sequences.
        undesirable: weight of the others.
    """
    good = desirable * (1 - mx.sigmoid(beta * (log_ratio - kl)))
    bad = undesirable * (1 - mx.sigmoid(beta * (kl - log_ratio)))
    return mx.where(label > 0, good, bad)


def kto_zero(
    log_ratio: B,
    label: mx.array,
    kl: mx.array,
    *,
    beta: float,
    desirable: float,
    undesirable: float,
) -> B:
    """`apo_zero` on unpaired sequences, without an estimate of the KL; arguments of `kto`."""
    good = desirable * (1 - mx.sigmoid(beta * log_ratio))
    bad = undesirable * mx.sigmoid(beta * log_ratio)
    return mx.where(label > 0, good, bad)


def log_odds_ratio(chosen: B, rejected: B) -> B:
    """The log odds ratio of two probabilities, from their logs: ORPO (Hong et al. 2024), equation
    7; log-probabilities are means over tokens."""
    return chosen - rejected - (_log1m_exp(chosen) - _log1m_exp(rejected))


def _log1m_exp(x: mx.array) -> mx.array:
    """`log(1 - exp(x))` for x < 0, without cancellation."""
    near = x > -0.6931472
    left = mx.log(-mx.expm1(mx.where(near, x, -1.0)))
    right = mx.log1p(-mx.exp(mx.where(near, -1.0, x)))
    return mx.where(near, left, right)


def orpo(chosen: B, rejected: B, *, beta: float) -> B:
    """The odds ratio term of ORPO, `-beta log sigmoid(log odds ratio)`; equation 6."""
    return -beta * _log_sigmoid(log_odds_ratio(chosen, rejected))


def simpo(chosen: B, rejected: B, *, beta: float, gamma: float, label_smoothing: float = 0.0) -> B:
    """SimPO (Meng et al. 2024), equation 6: no reference, a margin `gamma`, log-probabilities per
    token."""
    return _smoothed(beta * (chosen - rejected) - gamma, label_smoothing)


def cpo(chosen: B, rejected: B, *, beta: float, label_smoothing: float = 0.0) -> B:
    """CPO (Xu et al. 2024), equation 3: DPO's loss with a uniform reference."""
    return _smoothed(beta * (chosen - rejected), label_smoothing)


def bradley_terry(chosen: B, rejected: B, *, margin: B | None = None, centering: float = 0.0) -> B:
    """`-log sigmoid(chosen - rejected - margin)` of rewards: Ouyang et al. 2022, equation 1.

    Args:
        chosen: rewards, `[B]`.
        rejected: rewards, `[B]`.
        margin: how much better the chosen is at least (Llama 2, section 3.2.2), `[B]`.
        centering: weight of `(chosen + rejected)^2`, which keeps rewards near zero (Eisenstein et
            al. 2023, section 4).
    """
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    loss = -_log_sigmoid(difference)
    return loss if centering == 0.0 else loss + centering * mx.square(chosen + rejected)
