"""Losses of `grpo` that don't clip the ratio, against their formulas in float64."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context

from .models import LLAMA
from .objectives import POLICY
from .suite import VOCAB, parse, randomize

BATCH = {name: mx.array(array) for name, array in POLICY.items()}


def model_of(seed):
    return randomize(parse("model", LLAMA).build(VOCAB), seed)


def loss_of(model, **table):
    return parse("objective", {"kind": "grpo", **table}).build()({"model": model}, BATCH, Context())


def logps_of(model):
    logits = model(BATCH["tokens"][:, :-1], Context()).astype(mx.float32)
    logp = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return mx.take_along_axis(logp, BATCH["tokens"][:, 1:, None], axis=-1)[..., 0]


def ratio_of(model):
    logps = np.float64(logps_of(model))
    return logps, np.exp((logps - POLICY["old_logps"]) * POLICY["counted"])


def test_cispo_weighs_log_probabilities_by_the_bounded_ratio():
    model = model_of(1)
    logps, ratio = ratio_of(model)
    bounded = np.minimum(ratio, 1.5)
    assert (bounded < ratio).any()
    share = POLICY["counted"] * (POLICY["weights"] / POLICY["row_tokens"])[:, None]
    weight = -bounded * POLICY["advantages"] * share

    found = loss_of(model, loss="cispo", clip_high=0.5)
    assert float(found.total) == pytest.approx((weight * logps).sum(), rel=1e-4)
    cut = ((ratio > 1.5) * POLICY["counted"]).sum(axis=1) / POLICY["counted"].sum(axis=1)
    expected = (cut * POLICY["weights"]).sum()
    assert float(found.parts["clip_fraction"]) == pytest.approx(expected, rel=1e-5)

    def slopes(total):
        def of(params):
            model.update(params)
            return total()

        return dict(tree_flatten(mx.grad(of)(model.trainable_parameters())))

    mine = slopes(lambda: loss_of(model, loss="cispo", clip_high=0.5).total)
    theirs = slopes(lambda: (mx.array(weight.astype(np.float32)) * logps_of(model)).sum())
    for name, slope in theirs.items():
        assert mx.allclose(mine[name], slope, rtol=1e-3, atol=1e-4), name


def test_sapo_has_a_sigmoid_of_the_ratio_by_the_sign_of_its_advantage():
    model = model_of(1)
    _, ratio = ratio_of(model)
    tau = np.where(POLICY["advantages"] > 0, 0.7, 1.4)
    loss = -4 / tau / (1 + np.exp(-tau * (ratio - 1))) * POLICY["advantages"] * POLICY["counted"]
    rows = loss.sum(axis=1) / POLICY["counted"].sum(axis=1)
    found = loss_of(model, loss="sapo", tau_positive=0.7, tau_negative=1.4)
    assert float(found.total) == pytest.approx((rows * POLICY["weights"]).sum(), rel=1e-4)
    assert "clip_fraction" not in found.parts


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"loss": "sapo", "clip_high": 0.3}, "clip_high"),
        ({"loss": "cispo", "delta": 2.0}, "delta"),
        ({"loss": "dapo", "tau_positive": 2.0}, "tau_positive"),
    ],
)
def test_a_key_that_the_loss_does_not_read_is_refused(table, key):
    with pytest.raises(ValueError, match=f"doesn't read objective.{key}: unset it"):
        parse("objective", {"kind": "grpo", **table})
