"""Rotary embedding: complex multiplication in NumPy, and the properties that it is made for."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.rotary import rotate, rotate_fused, rotate_naive

from .compare import assert_close, assert_derivative, assert_same_gradients, draw, numpy64

B, H, T, K = 2, 3, 7, 12
INV_FREQ = mx.array(np.array([1.0, 0.3, 0.05, 0.002], np.float32))
FORMS = [rotate, rotate_naive]


def by_numpy(x: mx.array, positions: np.ndarray, traditional: bool) -> np.ndarray:
    """`(a + ib) e^(i position inv_freq)` for every pair (a, b); positions `[B, T]`."""
    out, half = numpy64(x), INV_FREQ.size
    a = slice(0, 2 * half, 2) if traditional else slice(0, half)
    b = slice(1, 2 * half, 2) if traditional else slice(half, 2 * half)
    turn = np.exp(1j * positions[:, None, :, None] * numpy64(INV_FREQ))
    z = (out[..., a] + 1j * out[..., b]) * turn
    out[..., a], out[..., b] = z.real, z.imag
    return out


@pytest.mark.parametrize("traditional", [True, False])
@pytest.mark.parametrize("form", [*FORMS, rotate_fused])
@pytest.mark.parametrize("offset", [0, 5, mx.array(5), mx.array([5, 9])])
def test_pairs_turn_by_position_and_the_rest_passes(
    form: Any, offset: Any, traditional: bool
) -> None:
    x = draw(1, B, H, T, K)
    start = np.broadcast_to(np.array(offset), (B,))
    want = by_numpy(x, start[:, None] + np.arange(T), traditional)
    assert_close(form(x, INV_FREQ, offset=offset, traditional=traditional), want)


@pytest.mark.parametrize("traditional", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_positions_may_be_given(form: Any, traditional: bool) -> None:
    x = draw(1, B, H, T, K)
    positions = np.array([[0, 1, 2, 0, 1, 2, 3], [4, 5, 0, 1, 2, 3, 4]])
    got = form(x, INV_FREQ, positions=mx.array(positions), traditional=traditional)
    assert_close(got, by_numpy(x, positions, traditional))


@pytest.mark.parametrize("traditional", [True, False])
def test_the_fused_form_has_the_same_gradient(traditional: bool) -> None:
    def with_form(form: Any) -> Any:
        return lambda x: form(x, INV_FREQ, offset=3, traditional=traditional)

    assert_same_gradients(with_form(rotate_fused), with_form(rotate_naive), [draw(1, B, H, T, K)])


def test_products_of_queries_and_keys_depend_on_distance_alone() -> None:
    q, k = draw(1, 1, 1, 1, K), draw(2, 1, 1, 1, K)

    def product(i: int, j: int) -> float:
        return (rotate(q, INV_FREQ, offset=i) * rotate(k, INV_FREQ, offset=j)).sum().item()

    assert abs(product(3, 1) - product(103, 101)) < 1e-4
    assert abs(product(3, 1) - product(3, 2)) > 1e-2


def test_float64_gradients_are_the_derivative() -> None:
    assert_derivative(lambda x: rotate(x, INV_FREQ, offset=2), [draw(1, B, H, T, K)])


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_half_precision_is_kept_and_angles_are_float32(dtype: mx.Dtype) -> None:
    x = draw(1, B, H, T, K).astype(dtype)
    got = rotate(x, INV_FREQ, offset=4096)
    assert got.dtype == dtype
    want = by_numpy(x, np.broadcast_to(4096 + np.arange(T), (B, T)), False)
    assert_close(got, want, bound=1e-2)


@pytest.mark.compiled
def test_compiled_equals_eager_with_an_offset_that_is_an_array() -> None:
    traces = []

    def run(x: mx.array, offset: mx.array) -> mx.array:
        traces.append(1)
        return rotate(x, INV_FREQ, offset=offset)

    compiled, x = mx.compile(run), draw(1, B, H, T, K)
    for offset in (0, 7):
        got = compiled(x, mx.array(offset))
        assert_close(got, rotate(x, INV_FREQ, offset=offset))
    assert len(traces) == 1
