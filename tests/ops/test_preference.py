"""Losses of preferences: their values at known points, their slopes, and what must not matter."""

import math

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops import preference
from mlx_transformers.ops.preference import LOSSES, Pairs, Preference

SETTINGS = Preference(beta=0.5, label_smoothing=0.1)


def pairs(margin, *, n=4, seed=0, **changes):
    """Pairs whose chosen sequences score `margin` more than the rejected ones."""
    rng = np.random.default_rng(seed)
    reference = [mx.array(-rng.uniform(5, 9, n).astype(np.float32)) for _ in range(2)]
    lengths = [mx.array(rng.integers(2, 6, n)) for _ in range(2)]
    chosen, rejected = reference[0] + margin / 2, reference[1] - margin / 2
    return Pairs(chosen, rejected, *reference, *lengths, **changes)


def loss(name, margin, settings=SETTINGS, **changes):
    return float(LOSSES[name](pairs(margin, **changes).scores(), settings).mean())


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"sft", "apo_down", "discopop"}))
def test_a_policy_that_prefers_the_chosen_more_than_the_reference_has_a_smaller_loss(name):
    settings = Preference(beta=0.1, label_smoothing=1e-3)
    assert loss(name, 1.0, settings) < loss(name, 0.0, settings) < loss(name, -1.0, settings)


def test_losses_of_a_policy_that_is_the_reference():
    log2 = math.log(2)
    plain = Preference(beta=0.5)
    for name in ("sigmoid", "sigmoid_norm", "aot", "aot_unpaired", "robust"):
        assert loss(name, 0.0, plain) == pytest.approx(log2, rel=1e-5)
    assert loss("bco_pair", 0.0, plain) == pytest.approx(2 * log2, rel=1e-5)
    assert loss("nca_pair", 0.0, plain) == pytest.approx(2 * log2, rel=1e-5)
    assert loss("hinge", 0.0, plain) == pytest.approx(1.0)
    assert loss("apo_zero", 0.0, plain) == loss("apo_down", 0.0, plain) == pytest.approx(1.0)
    assert loss("sppo_hard", 0.0, plain) == pytest.approx(2.0)


def test_the_loss_is_that_of_the_formula():
    x = SETTINGS.beta * 1.5
    sigmoid = 1 / (1 + math.exp(-x))
    smooth = -0.9 * math.log(sigmoid) - 0.1 * math.log(1 - sigmoid)
    assert loss("sigmoid", 1.5) == pytest.approx(smooth, rel=1e-5)
    unbiased = (-0.9 * math.log(sigmoid) + 0.1 * math.log(1 - sigmoid)) / 0.8
    assert loss("robust", 1.5) == pytest.approx(unbiased, rel=1e-5)
    divergence = sigmoid * math.log(sigmoid / 0.9) + (1 - sigmoid) * math.log((1 - sigmoid) / 0.1)
    assert loss("exo_pair", 1.5) == pytest.approx(divergence, rel=1e-4)


def test_ipo_is_smallest_where_the_margin_per_token_is_half_the_inverse_of_beta():
    found = pairs(0.0).scores()
    goal = found.__class__(
        found.chosen_length * 1.0,
        *(mx.zeros(4) for _ in range(5)),
        found.chosen_length,
        found.rejected_length,
        mx.zeros(4),
    )
    assert float(LOSSES["ipo"](goal, Preference(beta=0.5)).max()) == 0.0


def test_sft_is_the_mean_over_all_chosen_tokens():
    found = pairs(0.0)
    mean = -found.chosen.sum() / found.chosen_length.sum()
    assert loss("sft", 0.0) == pytest.approx(float(mean), rel=1e-5)


@pytest.mark.parametrize(("name", "share"), [("exo_pair", 0.0), ("robust", 0.5)])
def test_a_label_smoothing_that_a_loss_has_no_value_for_is_refused(name, share):
    with pytest.raises(ValueError, match="label_smoothing"):
        loss(name, 0.0, Preference(label_smoothing=share))


def test_divergences_agree_near_the_reference_and_rank_alike():
    ratio = mx.array([-0.5, 0.0, 0.5])
    for kind, alpha in (
        ("reverse_kl", 1.0),
        ("forward_kl", 1.0),
        ("js_divergence", 1.0),
        ("alpha_divergence", 0.5),
    ):
        score = preference.divergence_score(ratio, kind, alpha)
        assert float(score[0]) < float(score[1]) < float(score[2])
    near = preference.divergence_score(ratio, "alpha_divergence", 1.0)
    assert mx.array_equal(near, ratio)
    with pytest.raises(ValueError, match="no divergence"):
        preference.divergence_score(ratio, "kl")


def test_losses_of_rewards_read_log_ratios_whatever_the_divergence():
    for name in ("nca_pair", "bco_pair", "sppo_hard", "aot_unpaired", "apo_zero", "apo_down"):
        other = loss(name, 0.7, Preference(beta=0.5), divergence="forward_kl")
        assert other == loss(name, 0.7, Preference(beta=0.5)), name
    # f' of the forward KL is 1 - 1/r: its constant matters per token, where lengths differ.
    one = Pairs(*(mx.array([x]) for x in (-1.0, -2.0, -1.5, -1.0, 2.0, 5.0)), "forward_kl")
    margin = (1 - math.exp(-0.5)) / 2 - (1 - math.exp(1.0)) / 5
    found = float(LOSSES["ipo"](one.scores(), Preference(beta=0.5))[0])
    assert found == pytest.approx((margin - 1) ** 2, rel=1e-5)


def test_kto_weighs_desirable_and_undesirable_sequences():
    ratio, label = mx.array([1.0, 1.0]), mx.array([1, 0])
    kl, beta = mx.array(0.5), 0.3
    good, bad = preference.kto(ratio, label, kl, beta=beta, desirable=2.0, undesirable=3.0).tolist()
    assert good == pytest.approx(2 * (1 - 1 / (1 + math.exp(-beta * 0.5))), rel=1e-5)
    assert bad == pytest.approx(3 * (1 - 1 / (1 + math.exp(beta * 0.5))), rel=1e-5)


def test_the_log_odds_ratio_keeps_its_digits_near_certainty():
    p, q = 1 - 1e-4, 0.3
    found = preference.log_odds_ratio(mx.array([math.log(p)]), mx.array([math.log(q)]))
    assert float(found[0]) == pytest.approx(math.log(p / (1 - p) / (q / (1 - q))), rel=1e-3)


def test_rewards_have_a_margin_and_a_centre():
    chosen, rejected = mx.array([1.0]), mx.array([0.25])
    plain = preference.bradley_terry(chosen, rejected)
    assert float(plain[0]) == pytest.approx(math.log(1 + math.exp(-0.75)), rel=1e-5)
    apart = preference.bradley_terry(chosen, rejected, margin=mx.array([0.75]), centering=0.1)
    assert float(apart[0]) == pytest.approx(math.log(2) + 0.1 * 1.25**2, rel=1e-5)
