"""Linear attention by chunks against its definition, token by token."""

from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.ops.linear_attention import linear_attention, linear_attention_naive

from .compare import assert_close, assert_same_gradients, draw

B, H, T, K, V = 2, 2, 21, 5, 3
CHUNK = 8
STARTS = mx.arange(T) == mx.array([[7], [16]])
VALID = (mx.arange(T) >= mx.array([[0], [3]])) & (mx.arange(T) < mx.array([[19], [T]]))

PER_HEAD, PER_FEATURE = (B, H, T), (B, H, T, K)
CASES: dict[str, tuple[tuple[int, ...] | None, dict[str, Any]]] = {
    "no decay": (None, {}),
    "a decay per head": (PER_HEAD, {}),
    "a decay that rows share": ((1, H, T), {}),
    "a decay per feature": (PER_FEATURE, {}),
    "documents": (PER_HEAD, {"starts": STARTS}),
    "documents, a decay per feature": (PER_FEATURE, {"starts": STARTS}),
    "padding": (PER_FEATURE, {"valid": VALID}),
    "padding and documents": (PER_HEAD, {"valid": VALID, "starts": STARTS}),
    "read before": (PER_HEAD, {"before": True, "starts": STARTS}),
    "bonus": (PER_FEATURE, {"before": True, "starts": STARTS, "bonus": True}),
    "bonus, a decay per head": (PER_HEAD, {"before": True, "bonus": True}),
}


def inputs(decay: tuple[int, ...] | None, groups: int = H, bonus: bool = False) -> list[mx.array]:
    """q, k, v, state, and the optional ones that `call` takes."""
    arrays = [draw(0, B, groups, T, K), draw(1, B, groups, T, K), draw(2, B, H, T, V)]
    arrays.append(draw(3, B, H, K, V))
    arrays += [] if decay is None else [-mx.abs(2 * draw(4, *decay))]
    return arrays + ([draw(5, H, K)] if bonus else [])


def call(
    form: Callable[..., tuple[mx.array, mx.array]], options: dict[str, Any], decayed: bool
) -> Callable[..., mx.array]:
    """A function of the arrays of `inputs` that gives output and last state as one array."""
    options = dict(options)
    with_bonus = options.pop("bonus", False)

    def run(q: mx.array, k: mx.array, v: mx.array, state: mx.array, *more: mx.array) -> mx.array:
        bonus = more[-1] if with_bonus else None
        decay = more[0] if decayed else None
        out, last = form(q, k, v, decay, scale=0.7, state=state, bonus=bonus, **options)
        return mx.concatenate([out.flatten(), last.flatten()])

    return run


@pytest.mark.parametrize("name", CASES)
def test_chunks_are_the_recurrence(name: str) -> None:
    decay, options = CASES[name]
    arrays = inputs(decay, bonus=options.get("bonus", False))
    fast = call(partial(linear_attention, chunk=CHUNK), options, decay is not None)
    naive = call(linear_attention_naive, options, decay is not None)
    assert_same_gradients(fast, naive, arrays, 1e-5)


def test_tiles_of_a_larger_chunk_are_the_recurrence() -> None:
    arrays = inputs(PER_FEATURE)
    fast = call(partial(linear_attention, chunk=32), {}, True)
    assert_same_gradients(fast, call(linear_attention_naive, {}, True), arrays, 1e-5)


@pytest.mark.parametrize("decay", [PER_HEAD, PER_FEATURE], ids=["per_head", "per_feature"])
def test_heads_share_the_queries_and_keys_of_a_group(decay: tuple[int, ...]) -> None:
    arrays = inputs(decay, groups=1)
    fast = call(partial(linear_attention, chunk=CHUNK), {}, True)
    assert_same_gradients(fast, call(linear_attention_naive, {}, True), arrays, 1e-5)


@pytest.mark.parametrize("decay", [PER_HEAD, PER_FEATURE], ids=["per_head", "per_feature"])
def test_strong_decays_neither_overflow_nor_lose_the_recent_past(decay: tuple[int, ...]) -> None:
    q, k, v, state, g = inputs(decay)
    arrays = [q, k, v, state, 40 * g]
    fast = call(partial(linear_attention, chunk=32), {}, True)
    assert_same_gradients(fast, call(linear_attention_naive, {}, True), arrays, 1e-4)


def test_a_row_goes_on_from_its_state() -> None:
    q, k, v, state, g = inputs(PER_FEATURE)
    whole, last = linear_attention(q, k, v, g, scale=1.0, state=state, chunk=CHUNK)
    outs = []
    for a, b in [(0, 5), (5, 6), (6, T)]:
        parts = (x[:, :, a:b] for x in (q, k, v, g))
        out, state = linear_attention(*parts, scale=1.0, state=state, chunk=CHUNK)
        outs.append(out)
    assert_close(mx.concatenate(outs, axis=2), whole)
    assert_close(state, last)


def test_half_precision_comes_back_with_a_state_in_float32() -> None:
    q, k, v, _, g = (x.astype(mx.bfloat16) for x in inputs(PER_HEAD))
    out, last = linear_attention(q, k, v, g, scale=1.0, chunk=CHUNK)
    naive, _ = linear_attention_naive(q, k, v, g, scale=1.0)
    assert (out.dtype, last.dtype) == (mx.bfloat16, mx.float32)
    assert_close(out, naive, 1e-2)


def test_what_does_not_fit_is_an_error() -> None:
    q, k, v, _ = inputs(None)
    with pytest.raises(ValueError, match="power of two tokens, not 24"):
        linear_attention(q, k, v, scale=1.0, chunk=24)
    with pytest.raises(ValueError, match="bonus goes with before=True"):
        linear_attention(q, k, v, scale=1.0, bonus=draw(5, H, K))
