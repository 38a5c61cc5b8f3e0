"""The products of a recurrence with one gradient for all steps, against autodiff's."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.recurrent_matmul import RecurrentMatmul, recurrent_matmul_naive

BATCH, LENGTH, WIDTH = 3, 6, 5


def loop(product: Callable[[mx.array], mx.array], x: mx.array) -> mx.array:
    """A recurrence that uses its product at every step."""
    h, outs = mx.zeros((BATCH, WIDTH), x.dtype), []
    for t in range(LENGTH):
        h = mx.tanh(x[:, t] + product(h))
        outs.append(h)
    return mx.stack(outs, axis=1)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=["fp32", "bf16"])
def test_outputs_and_gradients_are_those_of_autodiff(dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(0)
    x = mx.array(rng.standard_normal((BATCH, LENGTH, WIDTH)).astype(np.float32)).astype(dtype)
    weight = mx.array(rng.standard_normal((WIDTH, WIDTH)).astype(np.float32)).astype(dtype)
    direction = mx.array(rng.standard_normal((BATCH, LENGTH, WIDTH)).astype(np.float32))

    def fast(weight: mx.array, x: mx.array) -> mx.array:
        return (loop(RecurrentMatmul(weight, BATCH, LENGTH), x) * direction).sum()

    def plain(weight: mx.array, x: mx.array) -> mx.array:
        return (loop(lambda h: recurrent_matmul_naive(h, weight), x) * direction).sum()

    ours, theirs = (mx.value_and_grad(f, (0, 1))(weight, x) for f in (fast, plain))
    exact = 1e-5 if dtype == mx.float32 else 0.1
    assert abs(float(ours[0] - theirs[0])) < 10 * exact
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(
            np.asarray(a.astype(mx.float32)), np.asarray(b.astype(mx.float32)), atol=exact
        )


def test_a_second_use_begins_anew() -> None:
    weight, x = mx.eye(WIDTH), mx.ones((BATCH, LENGTH, WIDTH))

    def total(weight: mx.array) -> mx.array:
        return loop(RecurrentMatmul(weight, BATCH, LENGTH), x).sum()

    step = mx.grad(total)
    assert mx.array_equal(step(weight), step(weight))
