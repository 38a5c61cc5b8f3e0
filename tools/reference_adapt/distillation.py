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
    return {"loss": total / (options.get("num_items_in_batch") or count)}


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
        "advantages": distillation.teacher_advantages(
            *picked, mask, options["gamma"], per_token=options["length_normalization"]
        ),
    }


RULES = (
    Rule(r"DistilBERT", distilbert),
    Rule(r"generalized_jsd_loss", gkd),
    Rule(r"MiniLLM", minillm, {"grad_student_logits": ("single_step", "student_logits")}),
)
