"""Losses and advantages of policy gradients."""

import mlx.core as mx

from mlx_transformers.ops import policy
from reference_adapt import policy_variants
from reference_adapt.numeric import Arrays, Options, Rule

AVERAGES: dict[str, policy_variants.Average] = {
    "grpo": "sequence",
    "sapo": "sequence",
    "bnpo": "token",
    "dr_grpo": "length",
    "luspo": "sum",
    "dapo": "items",
    "cispo": "items",
    "vespo": "items",
}


def surrogate(options: Options, x: Arrays, ratio: mx.array, advantages: mx.array) -> mx.array:
    """The loss of each token, or of each sequence, of the GRPO family."""
    kind = options["loss_type"]
    if kind == "cispo":
        high = bounds_of(options)["high"]
        return policy.clipped_weight(ratio, advantages, x["logps"], high=high)
    if kind == "sapo":
        above, below = (options.get(f"sapo_temperature_{s}") for s in ("pos", "neg"))
        return policy.soft_surrogate(
            ratio, advantages, positive=above or 1.0, negative=below or 1.05
        )
    if kind == "vespo":
        whole = policy.log_ratio(x["logps"], x["old_logps"], x["mask"], "sum")
        weights = policy_variants.gamma_weights(
            whole,
            advantages,
            positive=(options.get("vespo_k_pos", 2.0), options.get("vespo_lambda_pos", 3.0)),
            negative=(options.get("vespo_k_neg", 3.0), options.get("vespo_lambda_neg", 2.0)),
        )
        return -weights * advantages * x["logps"]
    return policy.clipped_surrogate(
        ratio, advantages, **bounds_of(options), delta=options.get("delta")
    )


def bounds_of(options: Options) -> dict[str, float]:
    """How far a ratio may fall below 1 and rise above it; as far up as down unless they say."""
    low = options["epsilon_low"]
    high = options.get("epsilon_high")
    return {"low": low, "high": low if high is None else high}


def grpo(options: Options, x: Arrays) -> Arrays:
    """GRPO, DAPO, Dr. GRPO, GSPO, CISPO, SAPO, LUSPO and VESPO."""
    mask, kind = x["mask"], options["loss_type"]
    level = options.get("importance_sampling_level", "token")
    same = mx.stop_gradient(x["logps"])
    x = {"old_logps": same, "ref_logps": same, **x}
    ratio = mx.exp(policy.log_ratio(x["logps"], x["old_logps"], mask, level))
    advantages = x["advantages"]
    advantages = advantages[:, None] if advantages.ndim == 1 else advantages
    loss = mx.broadcast_to(surrogate(options, x, ratio, advantages), mask.shape)
    if (bound := options.get("off_policy_mask_threshold")) is not None:
        loss = loss * policy_variants.near_policy(
            x["logps"], x["old_logps"], mask, advantages, bound
        )
    learnt = mask
    if (share := options.get("top_entropy_quantile", 1.0)) < 1.0:
        learnt = policy_variants.high_entropy(x["entropy"], mask, share)
        loss = loss * learnt
    kl = policy.kl_estimate(x["logps"], x["ref_logps"], "k3")
    kl = kl * ratio if options.get("use_bias_correction_kl") else kl
    total = policy_variants.policy_loss(
        loss + options["beta"] * kl,
        mask,
        AVERAGES[kind],
        length=options.get("max_completion_length"),
        items=options.get("num_items_in_batch"),
    )
    bonus = options.get("entropy_coef") or 0.0
    clip = (ratio > bounds_of(options)["high"]) & (advantages > 0)
    if kind not in ("cispo", "sapo", "vespo"):
        held = ratio if options.get("delta") is None else mx.minimum(ratio, options["delta"])
        clip = policy.clipped(held, advantages, **bounds_of(options)) > 0
    clip = clip.astype(mx.float32)
    return {
        "loss": total - bonus * policy_variants.token_mean(x["entropy"], learnt)
        if bonus
        else total,
        "kl": policy_variants.token_mean(kl, mask),
        "clip_fraction": clip.mean()
        if clip.shape[1] == 1
        else policy_variants.token_mean(clip, mask),
    }


def rloo(options: Options, x: Arrays) -> Arrays:
    """The clipped policy loss of whole sequences."""
    ratio = mx.exp(policy.log_ratio(x["logps"], x["old_logps"], x["mask"], "sum"))[:, 0]
    bounds = bounds_of(options)
    loss = policy.clipped_surrogate(ratio, x["advantages"], **bounds)
    clip = policy.clipped(ratio, x["advantages"], **bounds)
    return {"loss": loss.mean(), "clip_fraction": clip.mean()}


def ppo(options: Options, x: Arrays) -> Arrays:
    """PPO's policy and value losses."""
    mask, clip = x["mask"], options["cliprange"]
    log_ratio = policy.log_ratio(x["logps"], x["old_logps"], mask)
    ratio, advantages = mx.exp(log_ratio), policy.counted(x["token_advantages"], mask)
    low, high = options.get("cliprange_low") or clip, options.get("cliprange_high") or clip
    loss = policy.clipped_surrogate(ratio, advantages, low=low, high=high)
    if options.get("dual_clip") is not None:
        loss = policy_variants.dual_clip(loss, advantages, options["dual_clip"])
    near = options["cliprange_value"]
    value = policy.value_loss(x["new_values"], x["old_values"], x["returns"], clip=near)
    moved = mx.zeros_like(value)
    if near is not None:
        unclipped = policy.value_loss(x["new_values"], x["old_values"], x["returns"], clip=None)
        moved = (value > unclipped).astype(mx.float32)
    return {
        "policy_loss": aggregated(loss, mask, options),
        "policy_clip_fraction": policy_variants.token_mean(
            policy.clipped(ratio, advantages, low=low, high=high), mask
        ),
        "approx_kl": policy_variants.token_mean(-log_ratio, mask),
        "value_loss": aggregated(value, mask, options),
        "value_clip_fraction": policy_variants.token_mean(moved, mask),
    }


def aggregated(loss: mx.array, mask: mx.array, options: Options) -> mx.array:
    """One number from a loss per token by verl's names of averages; sequences without a counted
    token take no part in a mean over sequences."""
    name = options["average"]
    if name in ("token-mean", "token-sum"):
        mean = policy_variants.policy_loss(loss, mask, "token")
        return mean * mask.sum() if name == "token-sum" else mean
    share = len(mask) / mx.maximum((mask.sum(axis=1) > 0).sum(), 1)
    if name == "seq-mean-token-mean":
        return policy_variants.policy_loss(loss, mask, "sequence") * share
    total = policy_variants.policy_loss(loss, mask, "sum") * share
    if name == "seq-mean-token-sum-norm":
        return total / (options.get("loss_scale_factor") or mask.shape[1])
    if name != "seq-mean-token-sum":
        raise LookupError(f"the average {name!r} has no rule")
    return total


def advantages(options: Options, x: Arrays) -> Arrays:
    """Advantages from the reward of each completion, or of each token."""
    kind, mask = options["kind"], x["mask"]
    if kind == "reinforce_pp":
        gamma = options.get("gamma", 1.0)
        returns = policy.discounted_returns(x["token_rewards"], mask, gamma)
        return {"advantages": policy.whiten(returns, mask), "returns": returns}
    if kind == "reinforce_pp_baseline":
        apart = policy.group_advantages(x["rewards"], options["group"], "group_mean")[:, None]
        return {"advantages": policy.whiten(mx.broadcast_to(apart, mask.shape), mask)}
    if kind == "opo":
        found = policy_variants.length_weighted_advantages(
            x["rewards"], mask.sum(axis=1), options["group"]
        )
        return {"advantages": found[:, None] * mask}
    found = policy.group_advantages(x["rewards"], options["group"], kind, options.get("eps", 1e-4))
    return {"advantages": found[:, None] * mask}


def gae(options: Options, x: Arrays) -> Arrays:
    """Generalised advantage estimation, and the whitened advantages."""
    mask = x["mask"]
    found, returns = policy.generalised_advantages(
        x["token_rewards"], x["values"], mask, gamma=options["gamma"], lam=options["lam"]
    )
    return {"advantages": found, "returns": returns, "whitened": policy.whiten(found, mask)}


VERL_ESTIMATORS = {"kl": "k1", "mse": "k2", "low_var_kl": "k3"}
"""verl's older names of estimators."""


def kl(options: Options, x: Arrays) -> Arrays:
    """Estimates of the KL of policy from reference, and rewards less their cost."""
    name = options["estimator"].removesuffix("+")
    plus = options["estimator"][len(name) :]
    kind = VERL_ESTIMATORS.get(name, name) + plus
    found = policy.kl_estimate(x["logps"], x["ref_logps"], kind)
    mean = policy_variants.token_mean(found, x["mask"])
    out = {"kl": policy.counted(found, x["mask"]), "mean": mean, "loss": mean}
    if "kl_coef" in options:
        cost = options["kl_coef"] * found
        out["token_rewards"] = policy.counted(x["token_scores"] - cost, x["mask"])
    return out


def logps_entropy(options: Options, x: Arrays) -> Arrays:
    """Log-probabilities of labels and the entropy, at a temperature."""
    logits = x["logits"] / options["temperature"]
    logp = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    picked = mx.take_along_axis(logp, x["labels"][..., None], axis=-1)[..., 0]
    return {"logps": picked, "entropy": policy.entropy(logits)}


TRUST = {"epsilon_low": 0.2}
"""TRL's bound of ratios."""
PPO = {"cliprange": 0.2, "cliprange_value": None, "average": "token-mean"}
"""verl's clipping, without its clipped values."""

RULES = (
    Rule(r"grpo_trainer", grpo, defaults={**TRUST, "loss_type": "dapo", "beta": 0.0}),
    Rule(r"rloo_trainer", rloo, defaults=TRUST),
    Rule(
        r"compute_policy_loss",
        ppo,
        {"grad_logps": ("policy_loss", "logps"), "grad_values": ("value_loss", "new_values")},
        PPO,
    ),
    Rule(r"outcome_advantage", advantages),
    Rule(r"gae_advantage", gae, defaults={"gamma": 1.0, "lam": 1.0}),
    Rule(r"kl_penalty", kl, defaults={"estimator": "k1"}),
    Rule(
        r"selective_log_softmax",
        logps_entropy,
        {"grad_logps_sum": ("logps", "logits"), "grad_entropy_sum": ("entropy", "logits")},
        {"temperature": 1.0},
    ),
)
