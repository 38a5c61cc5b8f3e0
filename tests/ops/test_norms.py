"""Norms: the definitions against NumPy, the forms that run against the definitions."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.norms import layer_norm, layer_norm_naive, rms_norm, rms_norm_naive

from .compare import (
    COMPILED_OR_NOT,
    assert_close,
    assert_derivative,
    assert_same_gradients,
    draw,
    numpy64,
)

EPS = 1e-2


def inputs() -> list[mx.array]:
    return [3 * draw(1, 2, 5, 24) + 1, draw(2, 24), draw(3, 24)]


def test_the_definitions_are_the_formulas() -> None:
    x, w, b = inputs()
    n, weight, bias = numpy64(x), numpy64(w), numpy64(b)
    centred = n - n.mean(axis=-1, keepdims=True)
    by_variance = centred / np.sqrt(n.var(axis=-1, keepdims=True) + EPS)
    by_square = n / np.sqrt((n**2).mean(axis=-1, keepdims=True) + EPS)
    assert_close(layer_norm_naive(x, w, b, EPS), by_variance * weight + bias)
    assert_close(rms_norm_naive(x, w, EPS), by_square * weight)


@COMPILED_OR_NOT
@pytest.mark.parametrize("leaves", [0, 1, 2])
def test_both_equal_their_definitions(leaves: int, compiled: bool) -> None:
    args = inputs()[: 1 + leaves]
    rest = [None] * (2 - leaves)

    def same(fast: object, naive: object, args: list[mx.array], rest: list[None]) -> None:
        def run(form, *given):  # type: ignore[no-untyped-def]
            return form(*given, *rest, EPS)

        assert_same_gradients(partial(run, fast), partial(run, naive), args, compiled=compiled)

    same(layer_norm, layer_norm_naive, args, rest)
    if leaves < 2:
        same(rms_norm, rms_norm_naive, args, rest[1:])


def test_float64_gradients_are_the_derivative() -> None:
    x, w, b = inputs()
    assert_derivative(lambda x, w: rms_norm(x, w, EPS), [x, w])
    assert_derivative(lambda x, w, b: layer_norm(x, w, b, EPS), [x, w, b])


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_half_precision_is_kept(dtype: mx.Dtype) -> None:
    x, w, b = (a.astype(dtype) for a in inputs())
    assert_close(rms_norm(x, w, EPS), rms_norm_naive(x, w, EPS), bound=2e-2)
    assert {rms_norm(x, w, EPS).dtype, layer_norm(x, w, b, EPS).dtype} == {dtype}
