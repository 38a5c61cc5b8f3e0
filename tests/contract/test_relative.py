"""Relative positions against their papers' formulas, written out pair by pair in NumPy."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context, Cursor, Layout
from mlx_transformers.core.errors import RecipeError

from . import reference
from . import reference_relative as relative
from .suite import difference, parse, randomize, weights_of

DIM, HEADS, GROUPS, WIDTH = 24, 4, 2, 6
MAX_LEN = 64
Q_POS, K_POS = [5, 6, 7], [4, -1, 6, 7, 0, 1, 2, 3]
"""Queries that go on from a ring of keys, one slot of which is empty."""


def drawn(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def built(kind: str, **fields: Any) -> Any:
    table = {"kind": kind, "n_heads": HEADS, **fields}
    return randomize(parse("position", table).build(DIM, MAX_LEN), 0)


def same_as(
    formula: Any, position: Any, q_pos: list[int], k_pos: list[int], causal: bool, kind: Any
) -> None:
    """The bias of every pair that a mask lets meet is what the formula says."""
    q = drawn(1, 2, HEADS, len(q_pos), WIDTH)
    k = drawn(2, 2, GROUPS, len(k_pos), WIDTH)
    places = mx.array(q_pos), mx.array(k_pos)
    bias = position.bias(q / WIDTH**0.5, k, *places, Context(Layout(causal=causal)))
    q, k, weights = np.asarray(q, np.float64), np.asarray(k, np.float64), weights_of(position)
    for b, h, t, s in np.ndindex(2, HEADS, len(q_pos), len(k_pos)):
        apart = q_pos[t] - k_pos[s]
        if k_pos[s] >= 0 and (apart >= 0 or not causal):
            key = k[b, h // (HEADS // GROUPS), s]
            expected = formula(q[b, h, t], key, h, apart, kind, weights)
            np.testing.assert_allclose(bias[b, h, t, s], expected, atol=1e-5)


CASES = [
    pytest.param(list(range(9)), list(range(9)), True, id="causal"),
    pytest.param(list(range(9)), list(range(9)), False, id="both_ways"),
    pytest.param(Q_POS, K_POS, True, id="cached"),
]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("q_pos", "k_pos", "causal"), CASES)
def test_shaw_adds_a_key_for_each_clipped_distance(q_pos, k_pos, causal, shared) -> None:
    span = 3
    position = built("shaw", span=span, shared=shared)
    same_as(relative.shaw, position, q_pos, k_pos, causal, {"span": span})


@pytest.mark.parametrize(("q_pos", "k_pos", "causal"), CASES)
def test_transformer_xl_has_the_four_terms_of_its_paper(q_pos, k_pos, causal) -> None:
    position = built("transformer_xl", theta=100.0)
    same_as(relative.transformer_xl, position, q_pos, k_pos, causal, {"theta": 100.0})


def test_transformer_xl_starts_without_habits() -> None:
    position = parse("position", {"kind": "transformer_xl", "n_heads": HEADS}).build(DIM, MAX_LEN)
    assert not position.u.any()
    assert not position.v.any()


@pytest.mark.parametrize("kind", ["shaw", "transformer_xl"])
def test_heads_that_do_not_fit_are_an_error(kind: str) -> None:
    q, places = mx.zeros((1, 2, 3, 5)), mx.arange(3)
    for fields, message in (
        ({"head_dim": 5}, "position.n_heads is 4, and the mixer's queries have 2"),
        ({"n_heads": 2}, r"Set position.head_dim = 5"),
    ):
        with pytest.raises(RecipeError, match=message):
            built(kind, **fields).bias(q, q, places, places, Context())


@pytest.mark.parametrize("traditional", [True, False])
@pytest.mark.parametrize("width", [8, 7])
def test_xpos_scores_fade_with_distance_pair_by_pair(traditional: bool, width: int) -> None:
    table = {"kind": "xpos", "theta": 100.0, "base": 8.0, "traditional": traditional}
    xpos = parse("position", table).build(DIM, MAX_LEN)
    q, k = drawn(1, 1, 1, 10, width), drawn(2, 1, 1, 10, width)
    turned = xpos.rotate(q, k, Context(cursor=Cursor(offset=3)))
    expected = [
        relative.xpos(np.asarray(x[0, 0], np.float64), np.arange(10) + 3, table, sign)
        for x, sign in ((q, 1), (k, -1))
    ]
    got = (turned[0] @ turned[1].swapaxes(-1, -2))[0, 0]
    np.testing.assert_allclose(got, expected[0] @ expected[1].T, rtol=1e-4, atol=1e-4)


def test_a_key_under_xpos_is_the_same_fresh_and_cached() -> None:
    xpos = parse("position", {"kind": "xpos"}).build(DIM, MAX_LEN)
    k = drawn(1, 1, 2, 12, 8)
    whole = xpos.rotate(k, k, Context())[1]
    for start in range(12):
        part = k[:, :, start : start + 1]
        one = xpos.rotate(part, part, Context(cursor=Cursor(offset=mx.array(start))))[1]
        assert difference(one, whole[:, :, start : start + 1]) < 1e-6


def test_long_sequences_under_xpos_stay_within_float16() -> None:
    length = 8192
    xpos = parse("position", {"kind": "xpos"}).build(DIM, length)
    x = mx.ones((1, 1, length, 8), mx.float16)
    q, k = xpos.rotate(x, x, Context())
    assert bool(mx.isfinite(q).all())
    assert bool(mx.isfinite(k).all())
    near = (q[:, :, -1].astype(mx.float32) * k[:, :, -1].astype(mx.float32)).sum()
    assert abs(near.item() - 8) < 0.05


def test_xpos_without_fading_is_rope() -> None:
    q, k = drawn(1, 2, 2, 9, 8), drawn(2, 2, 2, 9, 8)
    xpos = parse("position", {"kind": "xpos", "gamma": 1e6}).build(DIM, MAX_LEN)
    turned = xpos.rotate(q, k, Context(cursor=Cursor(offset=2)))
    rows = np.arange(9) + 2
    for x, y in zip((q, k), turned, strict=True):
        expected = reference.rope(np.asarray(x[1, 0], np.float64), rows, {"kind": "rope"})
        np.testing.assert_allclose(y[1, 0], expected, atol=1e-4)
