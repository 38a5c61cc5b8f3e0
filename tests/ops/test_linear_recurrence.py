"""Recurrences as associative scans against the loop over steps."""

import mlx.core as mx
import pytest

from mlx_transformers.ops.linear_recurrence import (
    linear_recurrence,
    linear_recurrence_naive,
    max_recurrence,
    max_recurrence_naive,
)

from .compare import COMPILED_OR_NOT, assert_close, assert_same_gradients, draw

LENGTHS = pytest.mark.parametrize("length", [1, 2, 7, 16, 37])


@LENGTHS
def test_a_linear_recurrence_is_its_loop(length: int) -> None:
    args = (mx.sigmoid(draw(0, 2, length, 3)), draw(1, 2, length, 3), draw(2, 2, 3))
    assert_same_gradients(linear_recurrence, linear_recurrence_naive, args)


@COMPILED_OR_NOT
def test_coefficients_are_broadcast_and_zeros_reset(compiled: bool) -> None:
    a = mx.where(mx.arange(11)[None, :, None, None] == 6, 0.0, -draw(0, 2, 11, 3, 1))
    args = (a, draw(1, 2, 11, 3, 4), draw(2, 2, 3, 4))
    assert_same_gradients(linear_recurrence, linear_recurrence_naive, args, compiled=compiled)
    moved = linear_recurrence(args[0], args[1], args[2] + 1.0)
    assert_close(moved[:, 6:], linear_recurrence(*args)[:, 6:])


def test_without_a_state_it_starts_from_zeros() -> None:
    a, b = draw(0, 2, 5, 3), draw(1, 2, 5, 3)
    assert_close(linear_recurrence(a, b), linear_recurrence_naive(a, b, mx.zeros((2, 3))))


def test_a_sequence_continues_from_its_state() -> None:
    a, b, h = draw(0, 2, 9, 3), draw(1, 2, 9, 3), draw(2, 2, 3)
    whole = linear_recurrence(a, b, h)
    first = linear_recurrence(a[:, :4], b[:, :4], h)
    then = linear_recurrence(a[:, 4:], b[:, 4:], first[:, -1])
    assert_close(mx.concatenate([first, then], axis=1), whole)


@LENGTHS
def test_a_running_maximum_is_its_loop(length: int) -> None:
    args = (-mx.abs(draw(0, 2, length, 3)), draw(1, 2, length, 3), draw(2, 2, 3))
    assert_same_gradients(max_recurrence, max_recurrence_naive, args)


def test_a_maximum_forgets_the_past_where_its_decay_is_infinite() -> None:
    a = mx.where(mx.arange(8)[None, :, None] == 5, -mx.inf, -mx.ones((2, 8, 3)))
    b, m = draw(1, 2, 8, 3), 10 + draw(2, 2, 3)
    assert_close(max_recurrence(a, b, m), max_recurrence_naive(a, b, m))
    assert_close(max_recurrence(a, b, m)[:, 5], b[:, 5])
