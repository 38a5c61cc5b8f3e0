"""The delta rule by chunks against its definition, token by token."""

from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.delta_rule import delta_rule, delta_rule_naive, unit_lower_inverse

from .compare import assert_close, assert_same_gradients, draw

B, H, T, K, V = 2, 2, 21, 5, 3
CHUNK = 8
STARTS = mx.arange(T) == mx.array([[7], [16]])
VALID = (mx.arange(T) >= mx.array([[0], [3]])) & (mx.arange(T) < mx.array([[19], [T]]))
PER_HEAD, PER_FEATURE = (B, H, T), (B, H, T, K)

CASES: dict[str, tuple[tuple[int, ...] | None, dict[str, Any]]] = {
    "no decay": (None, {}),
    "a decay per head": (PER_HEAD, {}),
    "a decay per feature": (PER_FEATURE, {}),
    "documents": (None, {"starts": STARTS}),
    "padding and documents": (PER_HEAD, {"valid": VALID, "starts": STARTS}),
    "documents, a decay per feature": (PER_FEATURE, {"valid": VALID, "starts": STARTS}),
}


def inputs(decay: tuple[int, ...] | None, groups: int = H) -> list[mx.array]:
    """q, k, v, β up to 2, state, and log-decays."""
    q, k, v = draw(0, B, groups, T, K), draw(1, B, groups, T, K), draw(2, B, H, T, V)
    k = k / mx.linalg.norm(k, axis=-1, keepdims=True)
    beta = 2 * mx.sigmoid(2 * draw(5, B, H, T))
    arrays = [q, k, v, beta, draw(3, B, H, K, V)]
    return arrays + ([] if decay is None else [-mx.abs(draw(4, *decay))])


def call(form: Callable[..., tuple[mx.array, mx.array]], **options: Any) -> Callable[..., mx.array]:
    """A function of the arrays of `inputs` that gives output and last state as one array."""

    def run(
        q: mx.array,
        k: mx.array,
        v: mx.array,
        beta: mx.array,
        state: mx.array,
        decay: mx.array | None = None,
    ) -> mx.array:
        out, last = form(q, k, v, beta, decay, scale=0.7, state=state, **options)
        return mx.concatenate([out.flatten(), last.flatten()])

    return run


@pytest.mark.parametrize("name", CASES)
def test_chunks_are_the_recurrence(name: str) -> None:
    decay, options = CASES[name]
    fast, naive = call(delta_rule, chunk=CHUNK, **options), call(delta_rule_naive, **options)
    assert_same_gradients(fast, naive, inputs(decay), 1e-5)


@pytest.mark.parametrize("decay", [None, PER_FEATURE], ids=["no_decay", "per_feature"])
def test_heads_share_the_queries_and_keys_of_a_group(decay: tuple[int, ...] | None) -> None:
    arrays = inputs(decay, groups=1)
    assert_same_gradients(call(delta_rule, chunk=32), call(delta_rule_naive), arrays, 1e-5)


def test_a_key_that_repeats_is_reflected_without_loss() -> None:
    """β = 2 and equal keys flip the stored value at every token; a Neumann series overflows."""
    k = mx.broadcast_to(mx.array([1.0, 0.0]), (1, 1, 64, 2))
    v, beta, state = mx.zeros((1, 1, 64, 1)), mx.full((1, 1, 64), 2.0), mx.ones((1, 1, 2, 1))
    out, last = delta_rule(k, k, v, beta, scale=1.0, state=state)
    assert_close(out[0, 0, :, 0], 1.0 - 2.0 * (np.arange(64) % 2 == 0), 1e-6)
    assert_close(last[0, 0, :, 0], np.array([1.0, 1.0]), 1e-6)


@pytest.mark.parametrize("size", [1, 2, 4, 16])
def test_the_inverse_of_a_unit_lower_triangle(size: int) -> None:
    lower = mx.tril(draw(0, 3, size, size), -1)
    want = np.linalg.inv(np.eye(size) + np.asarray(lower).astype(np.float64))
    assert_close(unit_lower_inverse(lower), want)


def test_a_row_goes_on_from_its_state() -> None:
    q, k, v, beta, state, g = inputs(PER_HEAD)
    whole, last = delta_rule(q, k, v, beta, g, scale=1.0, state=state, chunk=CHUNK)
    outs = []
    for a, b in [(0, 5), (5, 6), (6, T)]:
        parts = (x[:, :, a:b] for x in (q, k, v, beta, g))
        out, state = partial(delta_rule, chunk=CHUNK)(*parts, scale=1.0, state=state)
        outs.append(out)
    assert_close(mx.concatenate(outs, axis=2), whole)
    assert_close(state, last)
