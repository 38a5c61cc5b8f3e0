"""Objectives on preferences against their formulas, from the logits of a small decoder."""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context

from .models import LLAMA
from .objectives import PAIRS, UNPAIRED
from .suite import VOCAB, parse, randomize

BATCH = {name: mx.array(array) for name, array in PAIRS.items()}


def model_of(seed):
    return randomize(parse("model", LLAMA).build(VOCAB), seed)


def loss_of(table, batch=BATCH, **models):
    return parse("objective", table).build()(models, batch, Context())


def log_probs(model, side, batch=PAIRS):
    """Log-probability and length of each sequence in float64, `[B]`."""
    tokens, counted = batch[side], batch[f"{side}_counted"]
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


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("table", "rows"), [({"kind": "kto"}, UNPAIRED), ({"kind": "dpo", "loss": "bco_pair"}, PAIRS)]
)
def test_a_mean_over_the_rows_can_be_compiled_beside_their_weight(table, rows):
    model, batch = model_of(1), {name: mx.array(array) for name, array in rows.items()}

    def loss(batch):
        found = loss_of(table, batch, model=model)
        return found.total, (found.weight, found.parts)

    run = nn.value_and_grad(model, loss)
    (total, (weight, parts)), _ = run(batch)
    compiled = mx.compile(run, inputs=[model.state], outputs=[model.state])
    (found, (found_weight, found_parts)), _ = compiled(batch)
    assert float(found) == pytest.approx(float(total), rel=1e-5)
    assert float(found_weight) == float(weight) == rows["weights"].sum()
    assert found_parts.keys() == parts.keys()


def test_a_policy_that_is_its_reference_has_loss_log_2_and_a_gradient():
    model = model_of(1)

    def total(params):
        model.update(params)
        frozen = model_of(1)
        return loss_of({"kind": "dpo", "reference": "r"}, model=model, reference=frozen).total

    value, grads = mx.value_and_grad(total)(model.trainable_parameters())
    assert float(value) == pytest.approx(float(PAIRS["weights"].sum()) * math.log(2), rel=1e-5)
    assert max(float(mx.abs(g).max()) for _, g in tree_flatten(grads)) > 1e-4


@pytest.mark.parametrize("loss", ["aot", "aot_unpaired", "bco_pair"])
def test_rows_of_weight_0_never_change_a_loss_of_the_whole_batch(loss):
    model, reference = model_of(1), model_of(2)
    models, table = {"model": model, "reference": reference}, {"kind": "dpo", "reference": "r"}
    full = {name: mx.concatenate([array, array[:1]]) for name, array in BATCH.items()}
    full["rejected"] = mx.concatenate([BATCH["rejected"], BATCH["chosen"][1:2]])
    full["weights"], part = mx.array([1.0, 1.0, 1.0, 0.0]), BATCH | {"weights": mx.ones(3)}
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        batch = {name: array[mx.array(order)] for name, array in full.items()}
        found = float(loss_of(table | {"loss": loss}, batch, **models).total)
        assert found == pytest.approx(
            float(loss_of(table | {"loss": loss}, part, **models).total), rel=1e-5
        )


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


def scored(kind):
    """A reward model of random weights, and its rewards of both sides, from each row by itself."""
    table = LLAMA | {"kind": kind, "pool": {"kind": "scalar"}}
    if kind == "encoder":
        table = {name: value for name, value in table.items() if name != "head"}
    model = randomize(parse("model", table).build(VOCAB), 4)
    rewards = {}
    for side in ("chosen", "rejected"):
        rewards[side] = []
        for tokens, counted in zip(PAIRS[side], PAIRS[f"{side}_counted"], strict=True):
            end = int(np.flatnonzero(counted)[-1]) + 2
            tokens = mx.array(tokens[None, : min(end, len(counted))])
            ctx = Context()
            x = model.features(model.embedded({"tokens": tokens}, ctx), ctx)
            rewards[side].append(float(model.pooled(x, ctx)[0]))
    return model, np.array(rewards["chosen"]), np.array(rewards["rejected"])


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_a_reward_model_is_bradley_terry_on_the_last_token_of_each_side(kind):
    model, good, bad = scored(kind)
    found = loss_of({"kind": "reward", "centering": 0.1}, model=model)
    w, apart = PAIRS["weights"], good - bad
    each = np.log1p(np.exp(PAIRS["margin"] - apart)) + 0.1 * (good + bad) ** 2
    assert float(found.total) == pytest.approx((each * w).sum(), rel=1e-4)
    assert float(found.parts["accuracy"]) == ((good > bad) * w).sum()
    p = 1 / (1 + np.exp(-apart))
    assert float(found.parts["brier"]) == pytest.approx(((1 - p) ** 2 * w).sum(), rel=1e-4)
    sure = np.maximum(p, 1 - p)
    assert float(found.parts["confidence"]) == pytest.approx((sure * w).sum(), rel=1e-4)


def test_kto_weighs_good_and_bad_rows_against_the_kl_of_mismatched_ones():
    model, reference = model_of(2), model_of(1)
    table = {"kind": "kto", "reference": "r", "beta": 0.3, "undesirable": 2.0}
    batch = {name: mx.array(array) for name, array in UNPAIRED.items()}
    found = loss_of(table, batch, model=model, reference=reference)
    ratio, other = (
        log_probs(model, side, rows)[0] - log_probs(reference, side, rows)[0]
        for side, rows in (("chosen", PAIRS), ("mismatched", UNPAIRED))
    )
    w, label = UNPAIRED["weights"], UNPAIRED["label"]
    kl = max(0.0, (other * w).sum() / w.sum())
    assert kl > 0
    value = 1 / (1 + np.exp(-0.3 * np.where(label > 0, ratio - kl, kl - ratio)))
    each = np.where(label > 0, 1.0, 2.0) * (1 - value)
    assert float(found.total) == pytest.approx((each * w).sum(), rel=1e-4)
    assert float(found.parts["kl"]) == pytest.approx(kl * w.sum(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("loss", "weight"), [("orpo", 1.0), ("simpo", 0.0), ("cpo", 1.0)])
def test_the_likelihood_weighs_as_in_the_paper_of_the_loss_unless_set(loss, weight):
    table, model = {"kind": "orpo", "loss": loss}, model_of(1)
    unset, alone = (loss_of(table | nll, model=model) for nll in ({}, {"nll": 0.0}))
    likelihood = float(unset.parts["nll"])
    assert float(unset.total - alone.total) == pytest.approx(weight * likelihood, rel=1e-4)
    doubled = loss_of(table | {"nll": 2.0}, model=model)
    assert float(doubled.total - alone.total) == pytest.approx(2 * likelihood, rel=1e-4)


def test_simpo_and_cpo_take_label_smoothing():
    model, share = model_of(1), 0.2
    (good, n_good), (bad, n_bad) = log_probs(model, "chosen"), log_probs(model, "rejected")
    for loss, difference in (
        ("simpo", 2.0 * (good / n_good - bad / n_bad) - 0.5),
        ("cpo", 2.0 * (good - bad)),
    ):
        table = {"kind": "orpo", "loss": loss, "beta": 2.0, "nll": 0.0, "label_smoothing": share}
        found = float(loss_of(table, model=model).total)
        kept, swapped = np.log1p(np.exp(-difference)), np.log1p(np.exp(difference))
        each = (1 - share) * kept + share * swapped
        assert found == pytest.approx((each * PAIRS["weights"]).sum(), rel=1e-4)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "dpo", "loss": "simpo"}, 'no reference: .* objective.kind = "orpo"'),
        ({"kind": "dpo", "loss": "cpo"}, 'no reference: .* objective.kind = "orpo"'),
        ({"kind": "orpo", "loss": "sigmoid"}, 'a reference: .* objective.kind = "dpo"'),
        ({"kind": "orpo", "loss": "cpo", "gamma": 1.0}, "doesn't read objective.gamma"),
        ({"kind": "orpo", "label_smoothing": 0.1}, "doesn't read objective.label_smoothing"),
    ],
)
def test_a_loss_of_the_other_objective_and_unread_options_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        parse("objective", table)


def test_exo_needs_label_smoothing():
    with pytest.raises(ValueError, match="label_smoothing"):
        parse("objective", {"kind": "dpo", "loss": "exo_pair"})
