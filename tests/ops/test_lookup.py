"""Rows of a table, and the gradient of one that is read often."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.lookup import (
    lookup,
    lookup_naive,
    read_pairs_in_order,
    read_pairs_naive,
)

from .compare import (
    COMPILED_OR_NOT,
    assert_derivative,
    assert_same_gradients,
    draw,
    gradients,
    numpy64,
)

ROWS = mx.array([[3, 0, 3, 6], [3, 1, 6, 0]])


@pytest.mark.parametrize("rows", [ROWS, ROWS[0], mx.array(4)], ids=lambda r: str(r.shape))
@COMPILED_OR_NOT
def test_rows_of_any_shape_and_their_gradients_are_those_of_the_definition(
    rows: mx.array, compiled: bool
) -> None:
    table = draw(1, 7, 5)
    assert_same_gradients(
        lambda t: lookup(t, rows), lambda t: lookup_naive(t, rows), [table], compiled=compiled
    )


def test_a_row_gets_the_sum_of_what_reads_it_and_an_unread_one_zero() -> None:
    table = draw(1, 7, 5)
    weights = draw(99, *ROWS.shape, 5)
    want = np.zeros(table.shape)
    np.add.at(want, np.array(ROWS), numpy64(weights))
    _, got = gradients(lambda t: lookup(t, ROWS), [table])
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert not np.array(got)[[2, 4, 5]].any()


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=["bf16", "fp16"])
def test_a_frequent_row_is_summed_whole_in_half_precision(dtype: mx.Dtype) -> None:
    table, rows = mx.ones((3, 4), dtype), mx.zeros((4000,), mx.int32)
    grad = mx.grad(lambda t: lookup(t, rows).sum())(table)
    assert grad.dtype == dtype
    assert mx.array_equal(grad, mx.array([[4000.0] * 4, [0.0] * 4, [0.0] * 4]))


def test_float64_gradients_are_the_derivative() -> None:
    assert_derivative(lambda t: lookup(t, ROWS), [draw(1, 7, 5)])


@COMPILED_OR_NOT
def test_pairs_read_in_order_are_those_of_the_definition(compiled: bool) -> None:
    rows = mx.array([[0, 3, 3, 3], [1, 1, 2, 0], [3, 3, 3, 3]])
    assert_same_gradients(
        lambda s: read_pairs_in_order(s, rows),
        lambda s: read_pairs_naive(s, rows),
        [draw(1, 2, 5, 3, 4)],
        compiled=compiled,
    )


def test_a_pair_reads_the_score_of_its_query_with_its_row() -> None:
    scores, rows = draw(1, 2, 5, 3, 4), np.array([[0, 3], [1, 1], [2, 0]])
    got = read_pairs_naive(scores, mx.array(rows))
    assert got.shape == (2, 5, 3, 2)
    for b, h, t, s in np.ndindex(2, 5, 3, 2):
        assert got[b, h, t, s] == scores[b, h, t, rows[t, s]]
