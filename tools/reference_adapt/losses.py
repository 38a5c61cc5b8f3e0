"""Losses of fine-tuning, preferences, reward models and policy gradients."""

from dataclasses import replace

import mlx.core as mx

from mlx_transformers.ops import policy, preference
from mlx_transformers.ops.router_losses import balance_loss, marked, z_loss
from mlx_transformers.ops.xent import cross_entropy
from reference_adapt.numeric import Arrays, Options, Rule
from reference_adapt.policy_variants import token_mean


def total(logps: mx.array, mask: mx.array) -> mx.array:
    """Log-probability of each sequence: the sum over counted tokens."""
    return policy.counted(logps, mask).sum(axis=1)


def side(options: Options, x: Arrays, name: str, own: str, other: str) -> mx.array:
    """Log-probability of each sequence of one side; with `ld_alpha`, tokens beyond the length of
    the other side's count that much (LD-DPO)."""
    mask = x[f"{own}_mask"]
    if options.get("ld_alpha") is None:
        return total(x[name], mask)
    shorter = mx.minimum(mask.sum(axis=1), x[f"{other}_mask"].sum(axis=1))[:, None]
    weights = mx.where(mx.cumsum(mask, axis=1) <= shorter, 1.0, options["ld_alpha"])
    return total(x[name] * weights, mask)


def dpo(options: Options, x: Arrays) -> Arrays:
    """DPO and its relatives on per-token log-probabilities."""
    sides = ("chosen", "rejected"), ("rejected", "chosen")
    chosen, rejected = (side(options, x, f"{own}_logps", own, other) for own, other in sides)
    before = [side(options, x, f"ref_{own}_logps", own, other) for own, other in sides]
    if options.get("reference_free"):
        before = [mx.zeros_like(each) for each in before]
    pairs = preference.Pairs(
        chosen,
        rejected,
        *before,
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
    # The likelihood of the chosen sequences is that of all their tokens alike.
    plain = replace(scores, chosen_logp=total(x["chosen_logps"], x["chosen_mask"]))
    losses = [
        weight * preference.LOSSES[kind](plain if kind == "sft" else scores, settings)
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
        "reward_chosen": mx.where(good, reward, 0).sum() / mx.maximum(good.sum(), 1),
        "reward_rejected": mx.where(good, 0, reward).sum() / mx.maximum((~good).sum(), 1),
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
    nll = -token_mean(logps[:n], real[:n])
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


def alpha_reward(logp: mx.array, alpha: float) -> mx.array:
    """AlphaPO's reward `(1 - p^-alpha) / alpha` (Gupta et al. 2025), log p where alpha is 0."""
    return logp if alpha == 0.0 else (1 - mx.exp(-alpha * logp)) / alpha


def cpo(options: Options, x: Arrays) -> Arrays:
    """CPO, SimPO and AlphaPO on logits of chosen, then rejected rows."""
    logps, completion, _ = token_logps(x)
    kind, beta, smoothing = options["loss_type"], options["beta"], options["label_smoothing"]
    scores = total(logps, completion)
    if kind in ("simpo", "ipo"):
        scores = scores / completion.sum(axis=1)
    chosen, rejected = mx.split(scores, 2)
    n = len(chosen)
    nll = -token_mean(logps[:n], completion[:n])
    good, bad = (alpha_reward(each, options["alpha"]) for each in (chosen, rejected))
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
        "reward_chosen": beta * good.mean(),
        "reward_rejected": beta * bad.mean(),
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


DEFAULTS: dict[str, Options] = {
    "dpo": {"loss_type": "sigmoid", "beta": 0.1},
    "kto": {"loss_type": "kto", "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
    "orpo": {"beta": 0.1},
    "cpo": {
        "loss_type": "sigmoid",
        "beta": 0.1,
        "label_smoothing": 0.0,
        "cpo_alpha": 1.0,
        "simpo_gamma": 0.5,
        "alpha": 0.0,
    },
    "reward": {"margin": False, "center_rewards_coefficient": None},
}
"""TRL's values of options."""

RULES = (
    Rule(r"dpo_trainer", dpo, defaults=DEFAULTS["dpo"]),
    Rule(r"kto_trainer", kto, defaults=DEFAULTS["kto"]),
    Rule(r"orpo", orpo, defaults=DEFAULTS["orpo"]),
    Rule(r"cpo\.", cpo, defaults=DEFAULTS["cpo"]),
    Rule(r"reward_trainer", reward_model, defaults=DEFAULTS["reward"]),
    Rule(r"fixed_cross_entropy", sft, defaults={"kind": "nll"}),
    Rule(r"load_balancing_loss_func", moe_router, defaults={"kind": "balance", "top_k": 2}),
)
