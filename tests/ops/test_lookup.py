"""Rows of a table: the gradient of one that is read often, in both forms."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops import lookup as module
from mlx_transformers.ops.lookup import added, lookup, segmented

from .compare import assert_close, assert_derivative, draw, gradients, numpy64, scalar

ROWS = mx.array([[3, 0, 3, 6], [3, 1, 6, 0]])


@pytest.mark.parametrize("rows", [ROWS, ROWS[0], mx.array(4)], ids=lambda r: str(r.shape))
def test_rows_of_any_shape_are_read(rows: mx.array) -> None:
    table = draw(1, 7, 5)
    assert mx.array_equal(lookup(table, rows), table[rows])


@pytest.mark.parametrize("on_cpu", [True, False], ids=["added", "segmented"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_row_gets_the_sum_of_what_reads_it_and_an_unread_one_zero(
    on_cpu: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "on_cpu", lambda: on_cpu)
    table = draw(1, 7, 5)
    _, got = gradients(lambda t: lookup(t, ROWS), [table], compiled)
    want = np.zeros(table.shape)
    np.add.at(want, np.array(ROWS), numpy64(mx.grad(scalar)(table[ROWS])))
    assert_close(got, want)
    assert not numpy64(got)[[2, 4, 5]].any()


@pytest.mark.parametrize("total", [added, segmented])
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_a_frequent_row_is_summed_whole_in_half_precision(
    total: Any, dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "on_cpu", lambda: total is added)
    table, rows = mx.ones((3, 4), dtype), mx.zeros((4000,), mx.int32)
    grad = mx.grad(lambda t: lookup(t, rows).sum())(table)
    assert grad.dtype == dtype
    assert mx.array_equal(grad, mx.array([[4000.0] * 4, [0.0] * 4, [0.0] * 4]))


def test_float64_gradients_are_the_derivative() -> None:
    assert_derivative(lambda t: lookup(t, ROWS), [draw(1, 7, 5)])
