"""Log-probabilities of tokens: the formula in NumPy, and the written-out gradients."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.log_probs import linear_log_probs, linear_log_probs_naive
from mlx_transformers.ops.softcap import soft_cap, soft_cap_slope

from .compare import assert_close, assert_derivative, assert_same_gradients, draw, numpy64

N, D, V = 23, 6, 31
TARGETS = mx.array([3, -100, V, 0, V - 1, *range(N - 5)])
FORMS = [linear_log_probs, linear_log_probs_naive]


def leaves(with_bias: bool) -> list[mx.array]:
    return [draw(1, N, D), draw(2, V, D), *([draw(3, V)] if with_bias else [])]


def with_targets(form: Any, **options: Any) -> Any:
    def run(h: mx.array, w: mx.array, *bias: mx.array) -> mx.array:
        return form(h, w, TARGETS, bias=bias[0] if bias else None, **options)

    return run


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_log_probabilities_are_the_formula(
    form: Any, with_bias: bool, softcap: float | None
) -> None:
    options = {"chunk": 10} if form is linear_log_probs else {}
    got = with_targets(form, softcap=softcap, **options)(*leaves(with_bias))
    h, w, *bias = map(numpy64, leaves(with_bias))
    logits = h @ w.T + (bias[0] if bias else 0)
    if softcap:
        logits = softcap * np.tanh(logits / softcap)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    targets = np.array(TARGETS)
    known = (targets >= 0) & (targets < V)
    want = np.where(known, log_p[np.arange(N), np.where(known, targets, 0)], 0)
    assert got.dtype == mx.float32
    assert_close(got, want)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("with_bias", [True, False])
def test_gradients_are_those_of_the_definition(
    with_bias: bool, softcap: float | None, compiled: bool
) -> None:
    fast = with_targets(linear_log_probs, softcap=softcap, chunk=10)
    naive = with_targets(linear_log_probs_naive, softcap=softcap)
    assert_same_gradients(fast, naive, leaves(with_bias), compiled=compiled)


def test_the_gradient_is_the_derivative() -> None:
    assert_derivative(with_targets(linear_log_probs, softcap=2.0, chunk=10), leaves(True))


def test_a_target_outside_the_vocabulary_has_no_gradient() -> None:
    h, w = leaves(False)
    outside = mx.array([-100, V])
    d = mx.grad(lambda h: linear_log_probs(h, w, outside).sum())(h[:2])
    assert not d.any().item()


def test_half_precision_gives_float32_and_gradients_of_its_own_type() -> None:
    h, w = (x.astype(mx.bfloat16) for x in leaves(False))
    d = mx.grad(lambda w: with_targets(linear_log_probs, chunk=10)(h, w).sum())(w)
    assert d.dtype == mx.bfloat16
    assert with_targets(linear_log_probs)(h, w).dtype == mx.float32


def test_soft_capping_bounds_and_knows_its_slope() -> None:
    x = 5 * draw(4, 7)
    assert soft_cap(x, None) is x
    assert float(mx.abs(soft_cap(x, 2.0)).max()) < 2.0
    slope = mx.grad(lambda x: soft_cap(x, 2.0).sum())(x)
    assert_close(soft_cap_slope(soft_cap(x, 2.0), 2.0), slope)
