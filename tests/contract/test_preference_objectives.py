"""Objectives on preferences against their formulas, from the logits of a small decoder."""

import math

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context

from .models import LLAMA
from .objectives import PAIRS
from .suite import VOCAB, parse, randomize

BATCH = {name: mx.array(array) for name, array in PAIRS.items()}


def model_of(seed):
    return randomize(parse("model", LLAMA).build(VOCAB), seed)


def loss_of(table, batch=BATCH, **models):
    return parse("objective", table).build()(models, batch, Context())


def log_probs(model, side):
    """Log-probability and length of each sequence in float64, `[B]`."""
    tokens, counted = PAIRS[side], PAIRS[f"{side}_counted"]
    logits = np.float64(model(mx.array(tokens[:, :-1]), Context()))
    logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(logp, tokens[:, 1:, None], axis=-1)[..., 0]
    return (picked * counted).sum(axis=1), counted.sum(axis=1)


def test_dpo_is_the_log_sigmoid_of_the_margin_over_the_reference():
    model, reference = model_of(1), model_of(2)
    found = loss_of(
        {"kind": "dpo", "reference": "r", "beta": 0.3}, model=model, reference=reference
    )
    good, bad = (
        0.3 * (log_probs(model, side)[0] - log_probs(reference, side)[0])
        for side in ("chosen", "rejected")
    )
    w = PAIRS["weights"]
    expected = {
        "loss": (np.log1p(np.exp(bad - good)) * w).sum(),
        "margin": ((good - bad) * w).sum(),
        "accuracy": ((good > bad) * w).sum(),
        "reward_chosen": (good * w).sum(),
        "reward_rejected": (bad * w).sum(),
    }
    assert float(found.weight) == w.sum()
    for name, value in expected.items():
        assert float(found.parts[name]) == pytest.approx(value, rel=1e-4), name
    assert float(found.total) == pytest.approx(expected["loss"], rel=1e-4)


def test_a_policy_that_is_its_reference_has_loss_log_2_and_a_gradient():
    model = model_of(1)

    def total(params):
        model.update(params)
        frozen = model_of(1)
        return loss_of({"kind": "dpo", "reference": "r"}, model=model, reference=frozen).total

    value, grads = mx.value_and_grad(total)(model.trainable_parameters())
    assert float(value) == pytest.approx(float(PAIRS["weights"].sum()) * math.log(2), rel=1e-5)
    assert max(float(mx.abs(g).max()) for _, g in tree_flatten(grads)) > 1e-4


def test_the_reference_has_no_gradient():
    model, reference = model_of(1), model_of(2)

    def total(params):
        reference.update(params)
        return loss_of({"kind": "dpo", "reference": "r"}, model=model, reference=reference).total

    grads = mx.grad(total)(reference.trainable_parameters())
    assert max(float(mx.abs(g).max()) for _, g in tree_flatten(grads)) == 0


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "dpo", "loss": "ipo", "sft": 0.5},
        {"kind": "orpo"},
        {"kind": "orpo", "loss": "simpo"},
    ],
)
def test_tokens_that_are_not_counted_before_and_after_never_change_the_loss(table):
    model = model_of(1)
    padded = {
        name: mx.pad(array, [(0, 0), (0, 3)], constant_values=5 if name in PAIRS else 0)
        if array.ndim == 2
        else array
        for name, array in BATCH.items()
    }
    for side in ("chosen", "rejected"):
        padded[f"{side}_counted"] = mx.pad(BATCH[f"{side}_counted"], [(0, 0), (0, 3)])
    plain = loss_of(table, model=model)
    assert float(loss_of(table, padded, model=model).total) == pytest.approx(
        float(plain.total), rel=1e-5
    )


def test_orpo_is_the_odds_ratio_beside_the_likelihood():
    model = model_of(1)
    found = loss_of({"kind": "orpo", "beta": 0.2, "nll": 0.7}, model=model)
    (good, n_good), (bad, n_bad) = log_probs(model, "chosen"), log_probs(model, "rejected")
    good, bad, w = good / n_good, bad / n_bad, PAIRS["weights"]
    odds = good - bad - np.log1p(-np.exp(good)) + np.log1p(-np.exp(bad))
    nll, apart = -good, 0.2 * np.log1p(np.exp(-odds))
    assert float(found.total) == pytest.approx(((apart + 0.7 * nll) * w).sum(), rel=1e-4)
    assert float(found.parts["nll"]) == pytest.approx((nll * w).sum(), rel=1e-4)


def test_exo_needs_label_smoothing():
    with pytest.raises(ValueError, match="label_smoothing"):
        parse("objective", {"kind": "dpo", "loss": "exo_pair"})
