"""How two forms of one op are compared: arrays from NumPy, values and gradients with a bound."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

COMPILED_OR_NOT = pytest.mark.parametrize(
    "compiled", [pytest.param(True, marks=pytest.mark.compiled), False], ids=["compiled", "eager"]
)
"""Runs a test twice."""


def draw(seed: int, *shape: int) -> mx.array:
    """Normal float32 numbers that depend on the seed and the shape alone."""
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def numpy64(x: mx.array) -> np.ndarray:
    """The array as NumPy float64."""
    return np.array(x.astype(mx.float32)).astype(np.float64)


def assert_close(got: Any, want: Any, bound: float = 1e-5) -> None:
    """Same shapes, finite, and the largest difference within `bound` of the largest value."""
    got, want = (numpy64(x) if isinstance(x, mx.array) else np.asarray(x) for x in (got, want))
    assert got.shape == want.shape
    assert np.isfinite(got).all()
    assert np.abs(got - want).max() <= bound * max(1.0, np.abs(want).max())


def gradients(
    fn: Callable[..., mx.array], args: Sequence[mx.array], compiled: bool = False
) -> list[mx.array]:
    """`fn(*args)`, then the gradient of every argument of `scalar(fn(*args))`."""

    def both(*args: mx.array) -> tuple[mx.array, mx.array]:
        out = fn(*args)
        return scalar(out), out

    run = mx.value_and_grad(both, argnums=tuple(range(len(args))))
    (_, out), grads = (mx.compile(run) if compiled else run)(*args)
    return [out, *(grads if isinstance(grads, tuple) else [grads])]


def scalar(out: mx.array) -> mx.array:
    """A sum that no symmetry of `out` can hide from: every element times its own number."""
    return (out * draw(99, *out.shape).astype(out.dtype)).sum()


def assert_same_gradients(
    fast: Callable[..., mx.array],
    naive: Callable[..., mx.array],
    args: Sequence[mx.array],
    bound: float = 1e-5,
    compiled: bool = False,
) -> None:
    """Both forms agree in value and in the gradient of every argument."""
    pairs = zip(gradients(fast, args, compiled), gradients(naive, args), strict=True)
    for got, want in pairs:
        assert_close(got, want, bound)


def assert_derivative(fn: Callable[..., mx.array], args: Sequence[mx.array]) -> None:
    """In float64, the gradients predict how the value moves along a random direction.

    MLX's float64 exponential is right to 1e-7 only, hence the long step.
    """
    with mx.stream(mx.cpu):
        args = [a.astype(mx.float64) for a in args]
        steps = [draw(7 + i, *a.shape).astype(mx.float64) for i, a in enumerate(args)]
        h = 3e-3
        up = scalar(fn(*(a + h * s for a, s in zip(args, steps, strict=True))))
        down = scalar(fn(*(a - h * s for a, s in zip(args, steps, strict=True))))
        _, *grads = gradients(fn, args)
        assert all(g.dtype == mx.float64 for g in grads)
        moved = ((up - down) / (2 * h)).item()
        told = sum((g * s).sum().item() for g, s in zip(grads, steps, strict=True))
    assert abs(moved - told) <= 2e-4 * max(1.0, abs(moved))
