"""Policy-gradient losses: bounds, masks, estimators and advantages."""

import math

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops import policy

MASK = mx.array([[0, 1, 1, 1, 0], [1, 1, 0, 0, 0]])


def drawn(*shape, seed=0):
    return mx.array(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize(("ratio", "advantage"), [(1.5, 1.0), (0.5, -1.0)])
def test_a_ratio_beyond_its_bound_has_no_gradient(ratio, advantage):
    def loss(r):
        return policy.clipped_surrogate(r, mx.array([advantage]), low=0.2, high=0.28).sum()

    slope = mx.grad(loss)
    assert float(slope(mx.array([ratio]))[0]) == 0.0
    assert float(slope(mx.array([1.1]))[0]) == -advantage
    assert policy.clipped(mx.array([ratio]), mx.array([advantage]), low=0.2, high=0.28)[0] == 1
    assert policy.clipped(mx.array([ratio]), mx.array([-advantage]), low=0.2, high=0.28)[0] == 0


def test_negative_advantages_can_be_bounded_twice():
    ratio, advantage = mx.array([5.0]), mx.array([-1.0])
    plain = policy.clipped_surrogate(ratio, advantage, low=0.2, high=0.2)
    assert float(plain[0]) == 5.0
    two_sided = policy.clipped_surrogate(ratio, advantage, low=0.2, high=0.2, delta=1.5)
    assert float(two_sided[0]) == 1.5


def test_relatives_of_the_clipped_ratio_have_their_slopes():
    advantage, logps = mx.array([2.0]), mx.array([-1.0])
    slope = mx.grad(lambda x: policy.clipped_weight(mx.exp(x), advantage, x, high=1.5).sum())
    assert float(slope(mx.array([math.log(3.0)]))[0]) == pytest.approx(-1.5 * 2)
    gate = mx.grad(lambda r: policy.soft_surrogate(r, advantage, positive=0.7).sum())
    assert float(gate(mx.array([1.0]))[0]) == pytest.approx(-2.0)  # that of -r A where r is 1
    assert float(policy.clipped_weight(mx.array([0.5]), advantage, logps, high=1.5)[0]) == 1.0


def test_estimates_of_the_kl_have_its_mean_and_k3_is_never_negative():
    rng = np.random.default_rng(0)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    drawn = rng.choice(3, 200_000, p=p)
    logps, reference = (mx.array(np.log(each)[drawn].astype(np.float32)) for each in (p, q))
    true = float((p * np.log(p / q)).sum())
    for kind in ("k1", "k3"):
        found = policy.kl_estimate(logps, reference, kind)
        assert float(found.mean()) == pytest.approx(true, abs=0.01)
    assert float(policy.kl_estimate(logps, reference, "k3").min()) >= 0
    value = policy.kl_estimate(logps, reference, "k3+")
    assert mx.allclose(value, policy.kl_estimate(logps, reference, "k3"), atol=1e-6)
    slope = mx.grad(lambda x: policy.kl_estimate(x, mx.array([0.0]), "k3+").sum())
    assert float(slope(mx.array([0.7]))[0]) == pytest.approx(0.7)
    with pytest.raises(ValueError, match="no KL estimator"):
        policy.kl_estimate(logps, reference, "k4")


def test_generalised_advantages_are_discounted_sums_of_temporal_differences():
    rewards, values, gamma, lam = drawn(2, 5), drawn(2, 5, seed=1), 0.9, 0.8
    found, returns = policy.generalised_advantages(rewards, values, MASK, gamma=gamma, lam=lam)
    r, v = np.array(rewards), np.array(values)
    for row, places in ((0, [1, 2, 3]), (1, [0, 1])):
        after = [v[row, place] for place in places[1:]] + [0.0]
        delta = [r[row, t] + gamma * nxt - v[row, t] for t, nxt in zip(places, after, strict=True)]
        for i, t in enumerate(places):
            expected = sum((gamma * lam) ** (k - i) * delta[k] for k in range(i, len(places)))
            assert float(found[row, t]) == pytest.approx(expected, rel=1e-4)
            assert float(returns[row, t]) == pytest.approx(expected + v[row, t], rel=1e-4)
    assert not mx.where(MASK > 0, 0, found).any()


def test_whitened_values_have_mean_zero_and_deviation_one():
    found = policy.whiten(5 + 3 * drawn(2, 5), MASK)
    kept = np.array(found)[np.array(MASK) > 0]
    assert kept.mean() == pytest.approx(0, abs=1e-5)
    assert kept.std(ddof=1) == pytest.approx(1, rel=1e-4)


def test_advantages_compare_a_completion_with_its_group():
    rewards = mx.array([1.0, 0, 0, 0, 1, 1, 1, 1])
    mean = policy.group_advantages(rewards, 4, "group_mean").tolist()
    assert mean == [0.75, -0.25, -0.25, -0.25, 0, 0, 0, 0]
    others = policy.group_advantages(rewards, 4, "rloo").tolist()
    assert others[:2] == pytest.approx([1.0, -1 / 3])
    norm = policy.group_advantages(rewards, 4, "group_norm").tolist()
    assert norm[0] == pytest.approx(0.75 / (0.5 + 1e-4))
    assert norm[4:] == [0, 0, 0, 0]  # a group of equal rewards teaches nothing, and divides by eps
    with pytest.raises(ValueError, match="groups of 3"):
        policy.group_advantages(rewards, 3, "rloo")
    with pytest.raises(ValueError, match="no advantage"):
        policy.group_advantages(rewards, 4, "mean")


def test_values_are_clipped_to_the_side_with_the_larger_error():
    values, old, returns = (mx.array([[x]]) for x in (2.0, 0.0, 3.0))
    assert float(policy.value_loss(values, old, returns, clip=0.5)[0, 0]) == 0.5 * 2.5**2
    assert float(policy.value_loss(values, old, returns, clip=None)[0, 0]) == 0.5
