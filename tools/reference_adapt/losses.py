"""Losses of fine-tuning, preferences, reward models and policy gradients."""

import mlx.core as mx

from mlx_transformers.ops import policy, preference
from mlx_transformers.ops.router_losses import balance_loss, marked, z_loss
from mlx_transformers.ops.xent import cross_entropy
from reference_adapt.numeric import Arrays, Options, Rule


def total(logps: mx.array, mask: mx.array) -> mx.array:
    """Log-probability of each sequence: the sum over counted tokens."""
    return policy.counted(logps, mask).sum(axis=1)


def dpo(options: Options, x: Arrays) -> Arrays:
    """DPO and its relatives on per-token log-probabilities."""
    chosen = total(x["chosen_logps"], x["chosen_mask"])
    rejected = total(x["rejected_logps"], x["rejected_mask"])
    free = options.get("reference_free", False)
    zero = mx.zeros_like(chosen)
    pairs = preference.Pairs(
        chosen,
        rejected,
        zero if free else total(x["ref_chosen_logps"], x["chosen_mask"]),
        zero if free else total(x["ref_rejected_logps"], x["rejected_mask"]),
        x["chosen_mask"].sum(axis=1),
        x["rejected_mask"].sum(axis=1),
        options.get("f_divergence_type", "reverse_kl"),
        options.get("f_alpha_divergence_coef", 1.0),
    )
    settings = preference.Preference(
        options["beta"],
        options.get("label_smoothing", 0.0),
        options.get("discopop_tau", 0.05),
    )
    kinds = options["loss_type"]
    kinds = [kinds] if isinstance(kinds, str) else kinds
    weights = options.get("loss_weights") or [1.0] * len(kinds)
    scores = pairs.scores()
    losses = [
        weight * preference.LOSSES[kind](scores, settings)
        for kind, weight in zip(kinds, weights, strict=True)
    ]
    good = options["beta"] * (pairs.chosen - pairs.reference_chosen)
    bad = options["beta"] * (pairs.rejected - pairs.reference_rejected)
    return {"loss": sum(losses[1:], losses[0]).mean(), **rewards(good, bad)}


def rewards(good: mx.array, bad: mx.array) -> Arrays:
    """The mean rewards of chosen and rejected sequences, and how often the chosen ones win."""
    return {
        "reward_chosen": good.mean(),
        "reward_rejected": bad.mean(),
        "reward_accuracy": (good > bad).astype(mx.float32).mean(),
        "reward_margin": (good - bad).mean(),
    }


def kto(options: Options, x: Arrays) -> Arrays:
    """KTO on unpaired examples."""
    ratio = total(x["logps"] - x["ref_logps"], x["mask"])
    kl = mx.zeros(())
    if options["loss_type"] == "kto":
        mismatched = total(x["kl_logps"] - x["ref_kl_logps"], x["kl_mask"])
        kl = mx.stop_gradient(mx.maximum(mismatched.mean(), 0))
    form = preference.kto if options["loss_type"] == "kto" else preference.kto_zero
    loss = form(
        ratio,
        x["label"],
        kl,
        beta=options["beta"],
        desirable=options["desirable_weight"],
        undesirable=options["undesirable_weight"],
    )
    good = x["label"] > 0
    reward = options["beta"] * ratio
    return {
        "loss": loss.mean(),
        "kl": kl,
        "reward_chosen": mx.where(good, reward, 0).sum() / good.sum(),
        "reward_rejected": mx.where(good, 0, reward).sum() / (~good).sum(),
    }


def token_logps(x: Arrays) -> tuple[mx.array, mx.array, mx.array]:
    """Log-probabilities of the next tokens, and the masks of completions and of real tokens."""
    logits, targets = x["logits"][:, :-1], x["input_ids"][:, 1:]
    logp = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    picked = mx.take_along_axis(logp, targets[..., None], axis=-1)[..., 0]
    return picked, x["completion_mask"][:, 1:], x["attention_mask"][:, 1:]


def orpo(options: Options, x: Arrays) -> Arrays:
    """ORPO on logits of chosen, then rejected rows."""
    logps, completion, real = token_logps(x)
    mean = total(logps, completion) / completion.sum(axis=1)
    chosen, rejected = mx.split(mean, 2)
    n = len(chosen)
    nll = -policy.token_mean(logps[:n], real[:n])
    odds = preference.orpo(chosen, rejected, beta=options["beta"])
    return {
        "loss": nll + odds.mean(),
        "nll": nll,
        "reward_chosen": options["beta"] * chosen.mean(),
        "reward_rejected": options["beta"] * rejected.mean(),
        "logp_chosen": chosen.mean(),
        "logp_rejected": rejected.mean(),
        "log_odds_ratio": -odds.mean() / options["beta"],  # TRL's name for its log sigmoid
    }


def cpo(options: Options, x: Arrays) -> Arrays:
    """CPO, SimPO and AlphaPO on logits of chosen, then rejected rows."""
    logps, completion, _ = token_logps(x)
    kind, beta, smoothing = options["loss_type"], options["beta"], options["label_smoothing"]
    scores = total(logps, completion)
    if kind in ("simpo", "ipo"):
        scores = scores / completion.sum(axis=1)
    chosen, rejected = mx.split(scores, 2)
    n = len(chosen)
    nll = -policy.token_mean(logps[:n], completion[:n])
    good, bad = (preference.alpha_reward(each, options["alpha"]) for each in (chosen, rejected))
    ones, zero = mx.ones_like(chosen), mx.zeros_like(chosen)
    pairs = preference.Pairs(good, bad, zero, zero, ones, ones)
    settings = preference.Preference(beta, smoothing)
    if kind == "simpo":
        loss = preference.simpo(
            good, bad, beta=beta, gamma=options["simpo_gamma"], label_smoothing=smoothing
        )
    else:
        loss = preference.LOSSES[kind](pairs.scores(), settings)
    return {
        "loss": loss.mean() + options["cpo_alpha"] * nll,
        "nll": nll if options["cpo_alpha"] else mx.zeros(()),
        "reward_chosen": beta * chosen.mean(),
        "reward_rejected": beta * rejected.mean(),
        "logp_chosen": chosen.mean(),
        "logp_rejected": rejected.mean(),
    }


def reward_model(options: Options, x: Arrays) -> Arrays:
    """The Bradley-Terry loss of rewards."""
    chosen, rejected = x["chosen_rewards"], x["rejected_rewards"]
    loss = preference.bradley_terry(
        chosen,
        rejected,
        margin=x["margin"] if options["margin"] else None,
        centering=options["center_rewards_coefficient"] or 0.0,
    )
    return {
        "loss": loss.mean(),
        "accuracy": (chosen > rejected).astype(mx.float32).mean(),
        "mean_margin": (chosen - rejected).mean(),
    }


def sft(options: Options, x: Arrays) -> Arrays:
    """Cross-entropy over labelled positions."""
    logits, labels = x["logits"][:, :-1], x["labels"][:, 1:]
    flat, targets = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    weights = (targets >= 0).astype(mx.float32)
    n = options.get("num_items_in_batch") or weights.sum()
    if options["kind"] == "dft":
        logp = flat - mx.logsumexp(flat, axis=-1, keepdims=True)
        picked = mx.take_along_axis(logp, mx.maximum(targets, 0)[:, None], axis=-1)[:, 0]
        weights = weights * mx.stop_gradient(mx.exp(picked))
    smoothing = options.get("epsilon", 0.0) if options["kind"] == "smoothed" else 0.0
    loss, *_ = cross_entropy(flat, targets, weights, label_smoothing=smoothing)
    return {"loss": loss / n}


def moe_router(options: Options, x: Arrays) -> Arrays:
    """The balance and z losses of routers, over the tokens of all layers together."""
    n_layers, *_, n_experts = x["router_logits"].shape
    logits = x["router_logits"].reshape(1, -1, n_experts)
    weights = None
    if options.get("mask"):
        weights = mx.tile(x["attention_mask"].reshape(1, -1), (1, n_layers))
    if options["kind"] == "z":
        return {"loss": z_loss(logits, weights)}
    probs = mx.softmax(logits, axis=-1)
    choice = mx.argsort(-mx.stop_gradient(probs), axis=-1)[..., : options["top_k"]]
    return {"loss": balance_loss(marked(choice, n_experts), probs, weights)}


AVERAGES: dict[str, policy.Average] = {
    "grpo": "sequence",
    "bnpo": "token",
    "dr_grpo": "length",
    "dapo": "items",
}


def grpo(options: Options, x: Arrays) -> Arrays:
    """GRPO, DAPO, Dr. GRPO and GSPO."""
    mask = x["mask"]
    level = options.get("importance_sampling_level", "token")
    ratio = mx.exp(policy.log_ratio(x["logps"], x["old_logps"], mask, level))
    advantages = x["advantages"][:, None]
    bounds = {"low": options["epsilon_low"], "high": options["epsilon_high"]}
    loss = policy.clipped_surrogate(ratio, advantages, **bounds, delta=options.get("delta"))
    kl = policy.kl_estimate(x["logps"], x["ref_logps"], "k3")
    total = mx.broadcast_to(loss, mask.shape) + options["beta"] * kl
    clip = policy.clipped(ratio, advantages, **bounds)
    return {
        "loss": policy.policy_loss(
            total,
            mask,
            AVERAGES[options["loss_type"]],
            length=options.get("max_completion_length"),
            items=options.get("num_items_in_batch"),
        ),
        "kl": policy.token_mean(kl, mask),
        "clip_fraction": policy.token_mean(clip, mask) if level == "token" else clip.mean(),
    }


def rloo(options: Options, x: Arrays) -> Arrays:
    """The clipped policy loss of whole sequences."""
    ratio = mx.exp(policy.log_ratio(x["logps"], x["old_logps"], x["mask"], "sum"))[:, 0]
    bounds = {"low": options["epsilon_low"], "high": options["epsilon_high"]}
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
        loss = policy.dual_clip(loss, advantages, options["dual_clip"])
    mean = "token" if options["average"] == "token-mean" else "sequence"
    near = options["cliprange_value"]
    value = policy.value_loss(x["new_values"], x["old_values"], x["returns"], clip=near)
    moved = mx.zeros_like(value)
    if near is not None:
        unclipped = policy.value_loss(x["new_values"], x["old_values"], x["returns"], clip=None)
        moved = (value > unclipped).astype(mx.float32)
    return {
        "policy_loss": policy.policy_loss(loss, mask, mean),
        "policy_clip_fraction": policy.token_mean(
            policy.clipped(ratio, advantages, low=low, high=high), mask
        ),
        "approx_kl": policy.token_mean(-log_ratio, mask),
        "value_loss": policy.policy_loss(value, mask, mean),
        "value_clip_fraction": policy.token_mean(moved, mask),
    }


def advantages(options: Options, x: Arrays) -> Arrays:
    """Advantages from the reward of each completion, or of each token."""
    kind, mask = options["kind"], x["mask"]
    if kind == "reinforce_pp":
        gamma = options.get("gamma", 1.0)
        returns = policy.discounted_returns(x["token_rewards"], mask, gamma)
        return {"advantages": policy.whiten(returns, mask)}
    if kind == "reinforce_pp_baseline":
        apart = policy.group_advantages(x["rewards"], options["group"], "group_mean")[:, None]
        return {"advantages": policy.whiten(mx.broadcast_to(apart, mask.shape), mask)}
    found = policy.group_advantages(x["rewards"], options["group"], kind, options.get("eps", 1e-4))
    return {"advantages": found[:, None] * mask}


def gae(options: Options, x: Arrays) -> Arrays:
    """Generalised advantage estimation, and the whitened advantages."""
    mask = x["mask"]
    found, returns = policy.generalised_advantages(
        x["token_rewards"], x["values"], mask, gamma=options["gamma"], lam=options["lam"]
    )
    return {"advantages": found, "returns": returns, "whitened": policy.whiten(found, mask)}


def kl(options: Options, x: Arrays) -> Arrays:
    """Estimates of the KL of policy from reference, and rewards less their cost."""
    found = policy.kl_estimate(x["logps"], x["ref_logps"], options["estimator"])
    mean = policy.token_mean(found, x["mask"])
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


RULES = (
    Rule(r"dpo_trainer", dpo),
    Rule(r"kto_trainer", kto),
    Rule(r"orpo", orpo),
    Rule(r"cpo\.", cpo),
    Rule(r"reward_trainer", reward_model),
    Rule(r"fixed_cross_entropy", sft),
    Rule(r"load_balancing_loss_func", moe_router),
    Rule(r"grpo_trainer", grpo),
    Rule(r"rloo_trainer", rloo),
    Rule(
        r"compute_policy_loss",
        ppo,
        {"grad_logps": ("policy_loss", "logps"), "grad_values": ("value_loss", "new_values")},
    ),
    Rule(r"outcome_advantage", advantages),
    Rule(r"gae_advantage", gae),
    Rule(r"kl_penalty", kl),
    Rule(
        r"selective_log_softmax",
        logps_entropy,
        {"grad_logps_sum": ("logps", "logits"), "grad_entropy_sum": ("entropy", "logits")},
    ),
)
