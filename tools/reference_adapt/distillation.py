"""Losses of distillation."""

import mlx.core as mx

from mlx_transformers.ops import distillation
from mlx_transformers.ops.xent import cross_entropy
from reference_adapt.numeric import Arrays, Options, Rule


def distilbert(options: Options, x: Arrays) -> Arrays:
    """DistilBERT's losses, each over the positions that its code counts."""
    student, teacher, labels = x["student_logits"], x["teacher_logits"], x["labels"]
    real = x["attention_mask"] > 0
    soft = labels > -1 if options.get("restrict_ce_to_mask") else real
    temperature = options["temperature"]
    pair = [distillation.log_softmax(each, temperature) for each in (student, teacher)]
    ce = mean(distillation.kl(pair[1], pair[0]), soft) * temperature**2
    flat, targets = student.reshape(-1, student.shape[-1]), labels.reshape(-1)
    hard = labelled(flat, targets)
    squares = ((student - teacher) ** 2).sum(axis=-1)
    mse = mean(squares, soft)
    cosine = mean(1 - distillation.cosine(x["student_hidden"], x["teacher_hidden"]), real)
    total = options["alpha_ce"] * ce + options.get("alpha_mlm", 0.0) * hard
    total = total + options.get("alpha_cos", 0.0) * cosine + options.get("alpha_mse", 0.0) * mse
    if options.get("alpha_clm"):
        shifted = student[:, :-1].reshape(-1, student.shape[-1])
        total = total + options["alpha_clm"] * labelled(shifted, labels[:, 1:].reshape(-1))
    return {"loss": total, "loss_ce": ce, "loss_hard": hard, "loss_cos": cosine, "loss_mse": mse}


def labelled(flat: mx.array, targets: mx.array) -> mx.array:
    """The mean cross-entropy of the rows that have a label."""
    weights = (targets >= 0).astype(mx.float32)
    return cross_entropy(flat, targets, weights)[0] / weights.sum()


def mean(values: mx.array, where: mx.array) -> mx.array:
    """The mean over some positions."""
    return mx.where(where, values, 0).sum() / where.sum()


def gkd(options: Options, x: Arrays) -> Arrays:
    """The generalised Jensen-Shannon divergence over labelled positions."""
    temperature = options.get("temperature", 1.0)
    pair = [
        distillation.log_softmax(x[name], temperature)
        for name in ("student_logits", "teacher_logits")
    ]
    found = distillation.generalised_jsd(*pair, options.get("beta", 0.5))
    counted = x["labels"] >= 0 if "labels" in x else mx.ones(found.shape, mx.bool_)
    total, count = mx.where(counted, found, 0).sum(), counted.sum()
    reduction = options.get("reduction", "batchmean")
    if reduction == "sum":
        return {"loss": total}
    if reduction == "mean":
        return {"loss": total / (count * pair[0].shape[-1])}
    rows = count if "labels" in x else len(found)  # as in TRL's code
    return {"loss": total / (options.get("num_items_in_batch") or rows)}


def minillm(options: Options, x: Arrays) -> Arrays:
    """MiniLLM's reverse KL of each step, and its advantages."""
    mask = x["mask"]
    temperature = options.get("kd_temperature", 1.0)
    student, teacher = (
        distillation.log_softmax(x[name], temperature)
        for name in ("student_logits", "teacher_logits")
    )
    labels = mx.maximum(x["labels"], 0)[..., None]
    picked = [mx.take_along_axis(each, labels, axis=-1)[..., 0] for each in (student, teacher)]
    return {
        "single_step": mean(distillation.kl(student, teacher), mask > 0),
        "advantages": teacher_advantages(
            *picked, mask, options["gamma"], per_token=options["length_normalization"]
        ),
    }


def teacher_advantages(
    student: mx.array, teacher: mx.array, mask: mx.array, gamma: float, *, per_token: bool = True
) -> mx.array:
    """Return MiniLLM's long-term rewards: what the teacher gives the rest of a sampled text.

    The discounted sum of `log p_t - log p_s` of the sampled tokens from each position on, `[B, T]`.
    Weights are γ^i from the start of the row, as in TRL's code.

    Args:
        student: log-probabilities of the sampled tokens, `[B, T]`.
        teacher: the same of the teacher.
        mask: 1 where a token counts.
        gamma: the discount; 0 leaves each token its own reward.
        per_token: divide by the sum of the weights (the paper's length normalisation).
    """
    rewards = mx.where(mask > 0, teacher - student, 0)
    if gamma == 0:
        return rewards
    weights = gamma ** mx.arange(mask.shape[1]).astype(mx.float32)
    total = mx.cumsum(rewards * weights, axis=1, reverse=True)
    if not per_token:
        return total
    lengths = mx.where(mask > 0, 1.0, 1e-4) * weights
    return total / mx.cumsum(lengths, axis=1, reverse=True)


RULES = (
    Rule(r"DistilBERT", distilbert, defaults={"temperature": 2.0, "alpha_ce": 0.5}),
    Rule(r"generalized_jsd_loss", gkd),
    Rule(
        r"MiniLLM",
        minillm,
        {"grad_student_logits": ("single_step", "student_logits")},
        {"gamma": 0.0, "length_normalization": True},
    ),
)
