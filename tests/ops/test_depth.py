"""Halting, routing over depth, and exits against loops over tokens."""

import math

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.act import Halting
from mlx_transformers.ops.depth_routing import binary_cross_entropy, top_tokens
from mlx_transformers.ops.exits import confident

from .compare import draw


@pytest.mark.parametrize("last", [False, True], ids=["no_last", "last"])
def test_halting_weighs_steps_as_graves_does(last: bool) -> None:
    probabilities = np.random.default_rng(0).random((5, 3, 4)) * 0.5
    halting, weights = Halting.start((3, 4)), []
    for n, p in enumerate(probabilities):
        weight, halting = halting.step(mx.array(p.astype(np.float32)), 0.9, last and n == 4)
        weights.append(np.asarray(weight))
    for b, t in np.ndindex(3, 4):
        total, steps, remainder, expected = 0.0, 0, 0.0, [0.0] * 5
        for n, p in enumerate(probabilities[:, b, t]):
            steps += 1
            if total + p > 0.9 or (last and n == 4):
                expected[n] = remainder = 1 - total
                break
            total, expected[n] = total + p, p
        np.testing.assert_allclose([w[b, t] for w in weights], expected, atol=1e-6)
        assert float(halting.updates[b, t]) == steps
        assert float(halting.remainder[b, t]) == pytest.approx(remainder, abs=1e-6)
        assert float(halting.ponder()[b, t]) == pytest.approx(steps + remainder, abs=1e-6)
        if last:
            assert sum(w[b, t] for w in weights) == pytest.approx(1.0, abs=1e-6)


def test_the_best_tokens_keep_their_order_and_their_gradients() -> None:
    scores, x = draw(0, 2, 7), draw(1, 2, 7, 3)
    slots = top_tokens(scores, 3)
    for b in range(2):
        best = sorted(np.argsort(-np.asarray(scores[b]))[:3].tolist())
        assert slots.token[b, 0].tolist() == best

    def run(x: mx.array, scores: mx.array) -> mx.array:
        rows = mx.sin(slots.gather(x))
        return (slots.combine(rows, scores[..., None]) * draw(2, 2, 7, 3)).sum()

    def dense(x: mx.array, scores: mx.array) -> mx.array:
        chosen = slots.kept().astype(x.dtype)
        return (chosen * scores[..., None] * mx.sin(x) * draw(2, 2, 7, 3)).sum()

    ours, theirs = (mx.grad(f, (0, 1))(x, scores) for f in (run, dense))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_cross_entropy_of_two_classes() -> None:
    z, y = np.array([[2.0, -1.0, 0.5]]), np.array([[1, 0, 0]])
    p = 1 / (1 + np.exp(-z))
    each = -np.log(np.where(y, p, 1 - p))
    given = mx.array(z.astype(np.float32)), mx.array(y)
    assert float(binary_cross_entropy(*given)) == pytest.approx(each.mean(), rel=1e-5)
    weights = mx.array([[1, 1, 0]])
    two = float(binary_cross_entropy(*given, weights))
    assert two == pytest.approx(each[0, :2].mean(), rel=1e-5)


SURE = {
    "max_prob": lambda p: p.max(),
    "margin": lambda p: np.sort(p)[-1] - np.sort(p)[-2],
    "entropy": lambda p: 1 + (p * np.log(p)).sum() / math.log(len(p)),
}


@pytest.mark.parametrize("measure", SURE)
def test_a_layer_is_confident_above_the_threshold_of_its_measure(measure: str) -> None:
    logits = np.random.default_rng(1).standard_normal((3, 2, 4, 9)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    threshold = 0.35
    found = confident(
        mx.array(logits.astype(np.float32)),
        measure,
        1 - threshold if measure == "entropy" else threshold,
    )
    for b, t in np.ndindex(2, 4):
        expected = [bool(SURE[measure](probs[layer, b, t]) > threshold) for layer in range(3)]
        assert found[:, b, t].tolist() == expected
