"""Policy-gradient losses over the tokens of completions: PPO, GRPO and its relatives, RLOO.

Log-probabilities are those of completion tokens, `[B, T]`; `mask`, `[B, T]` of any type, is 1 where
a token counts and 0 in prompts and padding, whose values never matter.
"""

import mlx.core as mx

from ..core.shapes import BT, B


def counted(x: BT, mask: mx.array) -> BT:
    """x where the mask is 1, else 0, whatever stands there."""
    return mx.where(mask > 0, x, 0.0)


def log_ratio(logps: BT, old: BT, mask: mx.array, level: str = "token") -> mx.array:
    """The log-ratio of the policy and the one that sampled.

    Args:
        logps: under the policy that is trained.
        old: under the policy that sampled.
        mask: counted tokens.
        level: "token" gives `[B, T]`; "sequence" the mean over a sequence, `[B, 1]` (GSPO, Zheng et
            al. 2025, equation 7); "sum" its sum, `[B, 1]` (RLOO, Ahmadian et al. 2024).
    """
    ratio = counted(logps - old, mask)
    if level == "token":
        return ratio
    total = ratio.sum(axis=1, keepdims=True)
    if level == "sum":
        return total
    return total / mx.maximum(mask.sum(axis=1, keepdims=True), 1)


def clipped_surrogate(
    ratio: mx.array,
    advantages: mx.array,
    *,
    low: float,
    high: float,
    delta: float | None = None,
) -> mx.array:
    """`-min(r A, clip(r, 1 - low, 1 + high) A)`: PPO (Schulman et al. 2017), equation 7; with
    another bound above as in DAPO (Yu et al. 2025), equation 8.

    Args:
        ratio: r, probabilities of policy over sampler.
        advantages: A, of the same shape or one that broadcasts.
        low: how far r may fall below 1.
        high: how far r may rise above 1.
        delta: bound of the unclipped r, for negative advantages (INTELLECT-2, Prime Intellect 2025,
            equation 3).
    """
    bounded = mx.clip(ratio, 1 - low, 1 + high)
    if delta is not None:
        ratio = mx.minimum(ratio, delta)
    return -mx.minimum(ratio * advantages, bounded * advantages)


def clipped(ratio: mx.array, advantages: mx.array, *, low: float, high: float) -> mx.array:
    """1 where clipping took the gradient away: the ratio left its bounds on the side that its
    advantage would have pushed it to."""
    above = (ratio > 1 + high) & (advantages > 0)
    below = (ratio < 1 - low) & (advantages < 0)
    return (above | below).astype(mx.float32)


def clipped_weight(
    ratio: mx.array, advantages: mx.array, logps: mx.array, *, high: float
) -> mx.array:
    """`-min(r, high) A log p`, the ratio without a gradient: CISPO (MiniMax-M1, MiniMax 2025),
    equation 4, so that clipped tokens keep their gradient."""
    return -mx.stop_gradient(mx.minimum(ratio, high)) * advantages * logps


def soft_surrogate(
    ratio: mx.array, advantages: mx.array, *, positive: float = 1.0, negative: float = 1.05
) -> mx.array:
    """`-4 sigmoid(τ (r - 1)) / τ · A`, a gate in the place of clipping: SAPO (Gao et al. 2025).

    Args:
        ratio: r, probabilities of policy over sampler.
        advantages: A, of the same shape or one that broadcasts.
        positive: temperature τ where the advantage is above 0.
        negative: τ elsewhere.
    """
    tau = mx.where(advantages > 0, positive, negative)
    return -4 * mx.sigmoid(tau * (ratio - 1)) / tau * advantages


def kl_estimate(logps: mx.array, reference: mx.array, kind: str) -> mx.array:
    """Estimate of the KL of policy from reference at each token (Schulman 2020), any shape.

    Args:
        logps: under the policy.
        reference: under the reference.
        kind: "k1" `log r`, "abs" its size, "k2" `(log r)^2 / 2`, "k3" `1/r - 1 + log r`, each with
            r = policy / reference. A trailing "+" gives the same value with the gradient of k2.

    Raises:
        ValueError: another kind.
    """
    difference = logps - reference
    if kind.endswith("+"):
        value, slope = kl_estimate(logps, reference, kind[:-1]), 0.5 * mx.square(difference)
        return slope + mx.stop_gradient(value - slope)
    if kind == "k1":
        return difference
    if kind == "abs":
        return mx.abs(difference)
    if kind == "k2":
        return 0.5 * mx.square(difference)
    if kind == "k3":
        return mx.exp(-difference) - 1 + difference
    raise ValueError(f"There is no KL estimator {kind!r}: k1, abs, k2, k3, k1+, abs+, k3+.")


def value_loss(values: BT, old: BT, returns: BT, *, clip: float | None) -> BT:
    """Half the squared error of values, the larger of plain and clipped ones per token: PPO's value
    loss as in the code of Schulman et al. 2017.

    Args:
        values: estimates that are trained.
        old: estimates at the time of sampling.
        returns: targets.
        clip: how far values may move from old ones; None for no bound.
    """
    plain = mx.square(values - returns)
    if clip is None:
        return 0.5 * plain
    near = mx.clip(values, old - clip, old + clip)
    return 0.5 * mx.maximum(plain, mx.square(near - returns))


def group_advantages(rewards: B, group: int, kind: str, eps: float = 1e-4) -> B:
    """Advantages of completions from the rewards of their group, `[B]`.

    Args:
        rewards: one per completion; `group` neighbours share a prompt, `[B]`.
        group: completions per prompt, at least 2.
        kind: "group_norm" less the mean of the group over its standard deviation (GRPO, section
            4.1.2); "group_mean" without the division (Dr. GRPO); "rloo" less the mean of the others
            (Ahmadian et al. 2024, section 3.1); "batch_norm" over the deviation of the batch.
        eps: added to the deviation.

    Raises:
        ValueError: another kind, or groups that don't divide the batch.
    """
    if group < 2 or rewards.shape[0] % group:
        raise ValueError(
            f"{rewards.shape[0]} completions can't be split into groups of {group}: a group has at "
            "least two, and the batch holds whole groups."
        )
    rows = rewards.reshape(-1, group)
    centred = rows - rows.mean(axis=1, keepdims=True)
    if kind == "rloo":
        return (centred * group / (group - 1)).reshape(-1)
    if kind == "group_mean":
        return centred.reshape(-1)
    if kind == "group_norm":
        return (centred / (mx.std(rows, axis=1, keepdims=True, ddof=1) + eps)).reshape(-1)
    if kind == "batch_norm":
        return (centred / (mx.std(rewards, ddof=1) + eps)).reshape(-1)
    raise ValueError(f"There is no advantage {kind!r}: group_norm, group_mean, rloo, batch_norm.")


def whiten(x: BT, mask: mx.array, *, shift: bool = True) -> BT:
    """x over the standard deviation of its counted values (n - 1), less their mean if `shift`; zero
    elsewhere."""
    n = mx.maximum(mask.sum(), 1)
    mean = counted(x, mask).sum() / n
    variance = counted(mx.square(x - mean), mask).sum() / mx.maximum(n - 1, 1)
    white = (x - mean) * mx.rsqrt(variance + 1e-8)
    return counted(white if shift else white + mean, mask)


def discounted_returns(rewards: BT, mask: mx.array, gamma: float) -> BT:
    """Sums of later rewards, each discounted by its distance: `G_t = r_t + gamma G_{t+1}`."""
    return advantages_from_deltas(counted(rewards, mask), mask, gamma)


def generalised_advantages(
    rewards: BT, values: BT, mask: mx.array, *, gamma: float, lam: float
) -> tuple[BT, BT]:
    """Advantages and returns by generalised advantage estimation (Schulman et al. 2015), equation
    16; the value after the last counted token is zero.

    Args:
        rewards: of each token.
        values: estimates at each token.
        mask: counted tokens; those after a gap follow those before it.
        gamma: discount.
        lam: weight of longer estimates, λ.
    """
    values, rewards = counted(values, mask), counted(rewards, mask)
    after = following(values, mask)
    deltas = counted(rewards + gamma * after - values, mask)
    advantages = advantages_from_deltas(deltas, mask, gamma * lam)
    return advantages, counted(advantages + values, mask)


def following(x: BT, mask: mx.array) -> BT:
    """The value of x at the next counted token of the row, zero after the last."""
    columns: list[mx.array] = []
    next_value = mx.zeros(x.shape[:1], x.dtype)
    for t in range(x.shape[1] - 1, -1, -1):
        columns.append(next_value)
        next_value = mx.where(mask[:, t] > 0, x[:, t], next_value)
    return mx.stack(columns[::-1], axis=1)


def advantages_from_deltas(deltas: BT, mask: mx.array, decay: float) -> BT:
    """`A_t = delta_t + decay A_{t'}` with t' the next counted token; zero where none counts."""
    columns: list[mx.array] = []
    advantage = mx.zeros(deltas.shape[:1], deltas.dtype)
    for t in range(deltas.shape[1] - 1, -1, -1):
        counts = mask[:, t] > 0
        advantage = mx.where(counts, deltas[:, t] + decay * advantage, advantage)
        columns.append(mx.where(counts, advantage, 0.0))
    return mx.stack(columns[::-1], axis=1)


def entropy(logits: mx.array) -> mx.array:
    """Entropy in nats of the softmax of logits `[..., V]`, `[...]`."""
    logp = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return -(mx.exp(logp) * logp).sum(axis=-1)
