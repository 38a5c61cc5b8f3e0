"""Cross-entropy: the definition against NumPy, the written-out derivatives against autodiff."""

from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.log_probs import linear_log_probs
from mlx_transformers.ops.xent import (
    cross_entropy,
    cross_entropy_fused,
    cross_entropy_naive,
    cross_entropy_saving,
    linear_cross_entropy,
    linear_cross_entropy_naive,
)

from .compare import assert_close, assert_derivative, assert_same_gradients, draw, numpy64

N, D, V = 23, 6, 31
SETTINGS = [{"label_smoothing": eps, "z_loss": z} for eps in (0.0, 0.1) for z in (0.0, 0.02)]


def labels() -> tuple[mx.array, mx.array]:
    """Targets and weights; every fifth token is ignored, with labels that index nothing."""
    rng = np.random.default_rng(3)
    targets, weights = rng.integers(0, V, N), rng.random(N).astype(np.float32)
    weights[::5], targets[::5] = 0, [-100, V, 10**6, -1, 12]
    return mx.array(targets.astype(np.int32)), mx.array(weights)


def by_numpy(
    logits: np.ndarray, targets: mx.array, weights: mx.array, label_smoothing: float, z_loss: float
) -> list[float]:
    """The three sums, token by token, from probabilities."""
    sums = np.zeros(3)
    for row, y, w in zip(logits, np.array(targets), numpy64(weights), strict=True):
        if w == 0:
            continue
        lse = np.log(np.exp(row).sum())
        wanted = np.full(V, label_smoothing / V)
        wanted[y] += 1 - label_smoothing
        total = -(wanted * (row - lse)).sum() + z_loss * lse**2
        sums += w * np.array([total, lse - row[y], z_loss * lse**2])
    return sums.tolist()


@pytest.mark.parametrize("form", [cross_entropy, cross_entropy_naive, cross_entropy_saving])
@pytest.mark.parametrize("setting", SETTINGS)
def test_sums_are_the_formula(form: Any, setting: dict[str, float]) -> None:
    logits, (targets, weights) = 4 * draw(1, N, V), labels()
    got = form(logits, targets, weights, **setting)
    want = by_numpy(numpy64(logits), targets, weights, **setting)
    assert_close(mx.stack(got), want)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("setting", SETTINGS)
def test_linear_sums_are_the_formula(
    setting: dict[str, float], with_bias: bool, softcap: float | None
) -> None:
    h, w, bias = draw(1, N, D), draw(2, V, D), draw(3, V) if with_bias else None
    targets, weights = labels()
    logits = numpy64(h) @ numpy64(w).T + (numpy64(bias) if with_bias else 0)
    if softcap:
        logits = softcap * np.tanh(logits / softcap)
    want = by_numpy(logits, targets, weights, **setting)
    how: dict[str, Any] = {"bias": bias, "softcap": softcap, **setting}
    for gradients in (True, False):
        got = linear_cross_entropy(h, w, targets, weights, chunk=10, gradients=gradients, **how)
        assert_close(mx.stack(got), want)
    assert_close(mx.stack(linear_cross_entropy_naive(h, w, targets, weights, **how)), want)


@pytest.mark.parametrize("setting", SETTINGS)
def test_saved_exponentials_give_the_gradient(setting: dict[str, float]) -> None:
    def with_form(form: Any) -> Any:
        return lambda logits: form(logits, *labels(), **setting)[0]

    logits = 4 * draw(1, N, V)
    naive = with_form(cross_entropy_naive)
    assert_same_gradients(with_form(cross_entropy_saving), naive, [logits])
    if not any(setting.values()):
        fused = partial(cross_entropy_fused, targets=labels()[0], weights=labels()[1])
        assert_same_gradients(lambda x: fused(x)[0], naive, [logits])
        assert_close(
            mx.stack(cross_entropy_fused(logits, *labels())),
            mx.stack(cross_entropy_naive(logits, *labels())),
        )


@pytest.mark.parametrize("chunk", [1, 10, 23, 256])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("setting", SETTINGS)
def test_chunks_give_the_gradient_of_every_leaf(
    setting: dict[str, float], softcap: float | None, chunk: int
) -> None:
    def with_form(form: Any) -> Any:
        def total(h: mx.array, w: mx.array, bias: mx.array | None = None) -> mx.array:
            return form(h, w, *labels(), bias=bias, softcap=softcap, **setting)[0]

        return total

    fast = with_form(partial(linear_cross_entropy, chunk=chunk))
    naive = with_form(linear_cross_entropy_naive)
    leaves = [draw(1, N, D), draw(2, V, D), draw(3, V)]
    for args in (leaves, leaves[:2]):
        assert_same_gradients(fast, naive, args)


def test_float64_gradients_are_the_derivative() -> None:
    targets, weights = labels()
    how: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.02}
    assert_derivative(lambda x: cross_entropy(x, targets, weights, **how)[0], [draw(1, N, V)])
    assert_derivative(
        lambda h, w: linear_cross_entropy(h, w, targets, weights, softcap=2.0, chunk=9, **how)[0],
        [draw(1, N, D), draw(2, V, D)],
    )


def test_an_ignored_token_has_no_gradient_and_the_log_parts_carry_none() -> None:
    targets, weights = labels()
    grad = mx.grad(lambda x: cross_entropy(x, targets, weights, z_loss=0.1)[0])(draw(1, N, V))
    assert (mx.abs(grad).max(axis=1) > 0).tolist() == (weights > 0).tolist()
    grad = mx.grad(lambda x: sum(cross_entropy(x, targets, weights, z_loss=0.1)[1:]))(draw(1, N, V))
    assert (grad == 0).all().item()


def test_accumulated_parts_equal_the_whole() -> None:
    h, w, (targets, weights) = draw(1, N, D), draw(2, V, D), labels()
    whole = mx.stack(linear_cross_entropy(h, w, targets, weights, z_loss=0.1))
    parts = [
        mx.stack(linear_cross_entropy(h[i], w, targets[i], weights[i], z_loss=0.1))
        for i in (slice(0, 7), slice(7, N))
    ]
    assert_close(parts[0] + parts[1], whole)


def test_logits_far_apart_are_finite() -> None:
    logits, (targets, weights) = 1e4 * draw(1, N, V), labels()
    for form in (cross_entropy_naive, cross_entropy_saving):
        total, grad = mx.value_and_grad(lambda x, f=form: f(x, targets, weights)[0])(logits)
        assert mx.isfinite(total).item()
        assert mx.isfinite(grad).all().item()


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_half_precision_sums_in_float32_and_returns_gradients_in_kind(dtype: mx.Dtype) -> None:
    h, w, (targets, weights) = draw(1, N, D).astype(dtype), draw(2, V, D).astype(dtype), labels()
    run = mx.value_and_grad(
        lambda h, w: linear_cross_entropy(h, w, targets, weights, chunk=10)[0], argnums=(0, 1)
    )
    total, grads = run(h, w)
    assert total.dtype == mx.float32
    assert {g.dtype for g in grads} == {dtype}
    wide = [x.astype(mx.float32) for x in (h, w)]
    assert_close(total, linear_cross_entropy_naive(*wide, targets, weights)[0], bound=5e-3)
    for got, want in zip(grads, run(*wide)[1], strict=True):
        assert_close(got, want, bound=2e-2)


@pytest.mark.compiled
def test_compiled_and_recomputed_equal_eager() -> None:
    targets, weights = labels()

    def run(h: mx.array, w: mx.array) -> mx.array:
        return linear_cross_entropy(h, w, targets, weights, chunk=10)[0]

    args = [draw(1, N, D), draw(2, V, D)]
    assert_same_gradients(run, run, args, compiled=True)
    assert_same_gradients(mx.checkpoint(run), run, args, compiled=True)


def test_all_logits_never_exist_at_once() -> None:
    n, d, v = 2048, 32, 6000
    h, w = draw(1, n, d), draw(2, v, d)
    targets, weights = mx.arange(n), mx.ones(n)
    mx.eval(h, w, targets, weights)

    def peak(form: Any) -> int:
        run = mx.value_and_grad(lambda h, w: form(h, w, targets, weights)[0], argnums=(0, 1))
        mx.reset_peak_memory()
        start = mx.get_active_memory()
        mx.eval(run(h, w))
        return mx.get_peak_memory() - start

    limit = mx.set_memory_limit(1)  # MLX then evaluates in turn, so that peaks are what is needed
    try:
        plain = peak(linear_cross_entropy_naive)
        assert plain > n * v * 4
        assert peak(partial(linear_cross_entropy, chunk=64)) < plain / 10
    finally:
        mx.set_memory_limit(limit)


@pytest.mark.parametrize("form", [linear_cross_entropy, linear_log_probs])
def test_a_frozen_weight_costs_no_gradient(form: Any) -> None:
    n, d, v = 64, 64, 4000
    h, w, bias = draw(1, n, d), draw(2, v, d), draw(3, v)
    targets, weights = mx.arange(n), [mx.ones(n)] if form is linear_cross_entropy else []
    mx.eval(h, w, bias, targets, weights)

    def run(frozen: bool) -> tuple[Any, int]:
        def total(h: mx.array, bias: mx.array) -> mx.array:
            out = form(h, w, targets, *weights, bias=bias, chunk=16, frozen=frozen)
            return out[0] if isinstance(out, tuple) else out.sum()

        mx.reset_peak_memory()
        start = mx.get_active_memory()
        grads = mx.grad(total, argnums=(0, 1))(h, bias)
        mx.eval(grads)
        return grads, mx.get_peak_memory() - start

    limit = mx.set_memory_limit(1)
    try:
        (expected, whole), (found, less) = run(frozen=False), run(frozen=True)
    finally:
        mx.set_memory_limit(limit)
    assert whole - less > 0.9 * w.nbytes
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "form",
    [cross_entropy_fused, cross_entropy_naive, cross_entropy_saving],
    ids=lambda f: f.__name__,
)
def test_the_sums_compile_together_though_two_of_them_are_equal(form: Any) -> None:
    logits, (targets, weights) = draw(1, N, V), labels()

    def run(logits: mx.array) -> Any:
        return mx.value_and_grad(lambda x: form(x, targets, weights))(logits)

    (total, nll, z), _ = mx.compile(run)(logits)
    assert total.item() == pytest.approx(nll.item())
    assert z.item() == 0
