"""RWKV-4's weighted mean against its loop over tokens."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.ops.wkv import empty_state, wkv, wkv_naive

from .compare import assert_close, assert_same_gradients, draw


def arguments(length: int, size: float = 1.0) -> tuple[mx.array, ...]:
    k, v = size * draw(0, 2, length, 3), draw(1, 2, length, 3)
    decay = -mx.exp(draw(2, 2, length, 3))
    sums = draw(4, 2, 2, 3) ** 2
    return k, v, decay, draw(3, 3), mx.concatenate([sums, draw(5, 2, 1, 3)], axis=1)


@pytest.mark.parametrize("length", [1, 6, 21])
def test_both_forms_agree_with_a_state(length: int) -> None:
    args = arguments(length)
    for i in range(2):
        assert_close(wkv(*args)[i], wkv_naive(*args)[i])
    assert_same_gradients(lambda *a: wkv(*a)[0], lambda *a: wkv_naive(*a)[0], args, bound=5e-5)


def test_weights_of_any_size_stay_finite() -> None:
    k, v, decay, bonus, _ = arguments(12, size=200.0)
    args = (k, v, decay, bonus, empty_state(2, 3))
    assert_close(wkv(*args)[0], wkv_naive(*args)[0])
    grads = mx.grad(lambda *a: wkv(*a)[0].sum(), argnums=(0, 1, 2, 3))(*args)
    assert all(bool(mx.isfinite(g).all()) for g in grads)


@pytest.mark.parametrize("form", [wkv, wkv_naive], ids=["scan", "loop"])
def test_a_document_reads_itself_alone(form: Callable[..., Any]) -> None:
    k, v, decay, bonus, _ = arguments(9)
    starts = mx.broadcast_to(mx.arange(9) == 4, (2, 9))
    out, last = form(k, v, decay, bonus, empty_state(2, 3), starts)
    assert_close(out[:, 0], v[:, 0])
    alone, end = form(k[:, 4:], v[:, 4:], decay[:, 4:], bonus, empty_state(2, 3))
    assert_close(out[:, 4:], alone)
    assert_close(last, end)


def test_a_sequence_continues_from_its_state() -> None:
    k, v, decay, bonus, state = arguments(10)
    whole, last = wkv(k, v, decay, bonus, state)
    first, between = wkv(k[:, :3], v[:, :3], decay[:, :3], bonus, state)
    then, end = wkv(k[:, 3:], v[:, 3:], decay[:, 3:], bonus, between)
    assert_close(mx.concatenate([first, then], axis=1), whole)
    assert_close(end, last)
