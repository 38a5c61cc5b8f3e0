"""Alignments against their formulas in NumPy."""

import mlx.core as mx
import numpy as np
import pytest

from . import aligns, reference_recurrent
from .suite import BATCH, DIM, LENGTH, Row, parse, weights_of

LENGTHS = (7, 4)
every_align = pytest.mark.parametrize("row", aligns.ROWS, ids=str)


def draw(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("offset", [0, 2])
@every_align
def test_weights_are_the_formula(row: Row, offset: int) -> None:
    it = row.subject().it
    h, memory = draw(0, BATCH, LENGTH, DIM), draw(1, BATCH, 7, DIM)
    valid = mx.arange(7)[None] < mx.array(LENGTHS)[:, None]
    found = np.asarray(it(h, it.make_keys(memory), valid, offset))
    w = weights_of(it)
    for b, length in enumerate(LENGTHS):
        for t in range(LENGTH):
            query, seen = np.asarray(h[b, t], np.float64), np.asarray(memory[b], np.float64)
            expected = reference_recurrent.align(query, seen, w, row.config, length, offset + t)
            np.testing.assert_allclose(found[b, t], expected, atol=1e-5)
    assert (found[1, :, 4:] == 0).all()


@every_align
def test_a_source_without_padding_needs_no_marks(row: Row) -> None:
    it = row.subject().it
    h, memory = draw(0, BATCH, LENGTH, DIM), draw(1, BATCH, 7, DIM)
    keys = it.make_keys(memory)
    marked = it(h, keys, mx.ones((BATCH, 7), mx.bool_))
    np.testing.assert_allclose(it(h, keys), marked, atol=1e-6)


def test_concat_is_additive_with_its_matrix_in_two_halves() -> None:
    concat, additive = aligns.ROWS[4].subject().it, aligns.ROWS[0].subject().it
    additive.q.weight, additive.k.weight = mx.split(concat.both.weight, 2, axis=1)
    additive.v.weight = concat.v.weight
    h, memory = draw(0, BATCH, LENGTH, DIM), draw(1, BATCH, 7, DIM)
    np.testing.assert_allclose(
        concat(h, concat.make_keys(memory)), additive(h, additive.make_keys(memory)), atol=1e-6
    )


def test_a_predicted_place_is_learned_through_the_gaussian() -> None:
    it = aligns.align("local", aligns.LOCAL).subject().it
    h, memory = draw(0, BATCH, LENGTH, DIM), draw(1, BATCH, 7, DIM)

    def share_of_the_first(weight: mx.array) -> mx.array:
        it.v.weight = weight
        return it(h, it.make_keys(memory))[..., :2].sum()

    weight = it.v.weight
    slope = mx.grad(share_of_the_first)(weight)
    assert float(share_of_the_first(weight + 0.1 * slope)) > float(share_of_the_first(weight))


def test_a_window_in_a_window_is_an_error() -> None:
    with pytest.raises(ValueError, match="score is local itself"):
        parse("align", aligns.LOCAL | {"score": aligns.LOCAL})
