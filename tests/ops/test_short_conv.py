"""The short depthwise convolution against NumPy, and its gradient against autodiff."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.short_conv import short_convolution, short_convolution_naive

from .compare import assert_close, assert_same_gradients, draw, numpy64

SEGMENTS = mx.array([[0, 0, 0, 1, 1, 2], [7] * 6])


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "packed"])
def test_it_is_the_formula(segments: mx.array | None) -> None:
    x, w = draw(1, 2, 6, 3), draw(2, 3, 4)
    want = np.zeros((2, 6, 3))
    for t in range(6):
        for j in range(4):
            s = t - 3 + j
            same = segments is None or np.array(segments[:, max(s, 0)] == segments[:, t])
            if s >= 0:
                want[:, t] += numpy64(w)[:, j] * numpy64(x)[:, s] * np.reshape(same, (-1, 1))
    assert_close(short_convolution(x, w, segments), want)


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "packed"])
def test_the_gradient_is_that_of_the_definition(segments: mx.array | None) -> None:
    args = [draw(1, 2, 6, 3), draw(2, 3, 4), draw(3, 2, 3, 3)]
    assert_same_gradients(
        lambda x, w, past: short_convolution(x, w, segments, past),
        lambda x, w, past: short_convolution_naive(x, w, segments, past),
        args,
    )


def test_it_continues_from_the_inputs_before() -> None:
    x, w = draw(1, 2, 6, 3), draw(2, 3, 4)
    whole = short_convolution(x, w)
    assert_close(short_convolution(x[:, 4:], w, past=x[:, 1:4]), whole[:, 4:])


def test_a_kernel_longer_than_the_row_reads_what_there_is() -> None:
    x, w = draw(1, 2, 2, 3), draw(2, 3, 5)
    assert_close(short_convolution(x, w, mx.zeros((2, 2), mx.int32)), short_convolution(x, w))
