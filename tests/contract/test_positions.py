"""Positions against their formulas."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context, Cursor, Layout
from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.layers.positions.alibi import alibi_slopes

from . import positions, reference
from .suite import DIM, LENGTH, MAX_LEN, difference, parse

ROPES = [row for row in positions.ROWS if row.kind == "rope" and "growth" not in row.config]


def heads(seed: int, length: int = LENGTH, width: int = 8) -> mx.array:
    rng = np.random.default_rng(seed)
    return mx.array(rng.standard_normal((2, 3, length, width)).astype(np.float32))


@pytest.mark.parametrize("offset", [0, 5], ids="from_{}".format)
@pytest.mark.parametrize("row", ROPES, ids=str)
def test_rope_turns_pairs_as_complex_numbers(row, offset: int) -> None:
    q, k = heads(0), heads(1)[:, :1]
    turned = row.parse().build(DIM, MAX_LEN).rotate(q, k, Context(cursor=Cursor(offset=offset)))
    for x, y in zip((q, k), turned, strict=True):
        for b, h in np.ndindex(x.shape[:2]):
            expected = reference.rope(
                np.asarray(x[b, h], dtype=np.float64), np.arange(LENGTH) + offset, row.config
            )
            np.testing.assert_allclose(y[b, h], expected, atol=1e-5)


@pytest.mark.parametrize("shift", [1, 7, 100])
@pytest.mark.parametrize("row", ROPES, ids=str)
def test_a_score_under_rope_depends_on_distance_alone(row, shift: int) -> None:
    rope = row.parse().build(DIM, MAX_LEN)

    def scores(offset: int) -> mx.array:
        q, k = rope.rotate(heads(0), heads(1), Context(cursor=Cursor(offset=offset)))
        return q @ k.swapaxes(-1, -2)

    assert difference(scores(0), scores(shift)) < 1e-4
    q, k = heads(0), heads(1)
    assert difference(scores(0), q @ k.swapaxes(-1, -2)) > 0.1


@pytest.mark.parametrize("rows", [False, True], ids=["from an offset", "by row"])
@pytest.mark.parametrize("kind", ["rope", "none"])
@pytest.mark.parametrize("first", [0, 1])
def test_queries_grow_with_their_position(first: int, kind: str, rows: bool) -> None:
    plain, growing = (
        parse("position", {"kind": kind, **more}).build(DIM, MAX_LEN)
        for more in ({}, {"growth": 0.5, "growth_every": 3, "growth_first": first})
    )
    where = np.arange(LENGTH) + 4
    ctx = Context(cursor=Cursor(offset=4))
    if rows:
        where = where + np.array([[0], [5]])
        ctx = Context(Layout(positions=mx.array(where)))
    q, k = heads(0), heads(1)
    (before, same), (after, keys) = (p.rotate(q, k, ctx) for p in (plain, growing))
    size = np.broadcast_to(1 + 0.5 * np.log(1 + (where + first) // 3), (2, LENGTH))
    assert difference(after, before * mx.array(size)[:, None, :, None]) < 1e-5
    assert difference(keys, same) == 0


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "learned", "offset": 2},
        {"kind": "sinusoidal", "offset": 1},
        {"kind": "buckets", "n_heads": 4, "absolute": 2},
    ],
    ids=lambda kind: kind["kind"],
)
def test_padding_in_front_moves_no_token_where_it_has_no_positions(kind: dict) -> None:
    skips = {} if kind["kind"] == "buckets" else {"skips_padding": True}
    places = parse("position", kind | skips).build(DIM, MAX_LEN)
    valid = mx.array([[False, False, True, True, True], [True] * 5])
    y = places.embed(mx.zeros((2, 5, DIM)), Context(Layout(valid=valid)))
    assert difference(y[0, 2:], y[1, :3]) == 0
    whole = places.embed(mx.zeros((2, 5, DIM)), Context())
    assert difference(y[1], whole[1]) == 0


def test_rope_that_would_turn_nothing_is_an_error() -> None:
    rope = parse("position", {"kind": "rope", "fraction": 0.1}).build(DIM, MAX_LEN)
    with pytest.raises(RecipeError, match=r"position.fraction = 0.1 of a head of 8 features"):
        rope.rotate(heads(0), heads(1), Context())


@pytest.mark.parametrize("dim", [16, 15])
@pytest.mark.parametrize("theta", [10000.0, 100.0])
def test_sinusoids_are_those_of_the_paper(dim: int, theta: float) -> None:
    waves = parse("position", {"kind": "sinusoidal", "theta": theta}).build(dim, MAX_LEN)
    y = waves.embed(mx.zeros((1, 40, dim)), Context(cursor=Cursor(offset=3)))
    np.testing.assert_allclose(y[0], reference.sinusoids(np.arange(40) + 3, dim, theta), atol=1e-5)


def test_learned_positions_add_the_row_of_their_table() -> None:
    learned = parse("position", {"kind": "learned"}).build(DIM, MAX_LEN)
    x = mx.ones((2, LENGTH, DIM))
    y = learned.embed(x, Context(cursor=Cursor(offset=4)))
    assert mx.array_equal(y - x, (x + learned.table.weight[4 : 4 + LENGTH]) - x)


def test_learned_positions_begin_at_their_offset() -> None:
    learned = parse("position", {"kind": "learned", "offset": 2}).build(DIM, MAX_LEN)
    assert learned.table.weight.shape == (MAX_LEN + 2, DIM)
    y = learned.embed(mx.zeros((1, 3, DIM)), Context())
    assert mx.array_equal(y[0], learned.table.weight[2:5])


def test_fairseqs_sinusoids_end_at_theta_and_begin_at_two() -> None:
    table = {"kind": "sinusoidal", "layout": "halves", "spacing": "last", "offset": 2}
    y = parse("position", table).build(8, MAX_LEN).embed(mx.zeros((1, 5, 8)), Context())
    for t in range(5):
        for i in range(4):
            angle = (t + 2) / 10000 ** (i / 3)
            np.testing.assert_allclose(y[0, t, i], np.sin(angle), atol=1e-5)
            np.testing.assert_allclose(y[0, t, 4 + i], np.cos(angle), atol=1e-5)


@pytest.mark.parametrize("n_heads", [1, 2, 3, 6, 8, 12, 16])
def test_alibis_slopes_are_those_of_the_paper(n_heads: int) -> None:
    """Press et al. 2021, section 3, and for other numbers of heads its code."""
    lower = 1 << (n_heads.bit_length() - 1)
    expected = [2 ** (-8 * (i + 1) / lower) for i in range(lower)]
    expected += [2 ** (-8 * (i + 1) / (2 * lower)) for i in range(2 * lower)][::2]
    np.testing.assert_allclose(alibi_slopes(n_heads), expected[:n_heads], rtol=1e-6)


def test_learned_positions_end_at_max_seq_len() -> None:
    learned = parse("position", {"kind": "learned"}).build(DIM, MAX_LEN)
    learned.embed(mx.zeros((1, MAX_LEN, DIM)), Context())
    with pytest.raises(RunError, match="33 tokens has no learned positions beyond 32"):
        learned.embed(mx.zeros((1, MAX_LEN + 1, DIM)), Context())


@pytest.mark.parametrize("row", [r for r in positions.ROWS if r.steps], ids=str)
def test_positions_given_one_by_one_replace_the_offset(row) -> None:
    subject = row.subject()
    x = subject.inputs()
    order = mx.array([[3, 1, 4, 0, 5, 8, 2, 6, 7], [8, 7, 6, 5, 4, 3, 2, 1, 0]])
    y = subject(x, Context(Layout(positions=order)))
    whole = subject(mx.take_along_axis(x, mx.argsort(order, axis=1)[..., None], axis=1), Context())
    assert difference(y, mx.take_along_axis(whole, order[..., None], axis=1)) < 1e-5


@pytest.mark.parametrize("kind", ["sinusoidal", "learned"])
def test_absolute_positions_begin_anew_with_every_document_of_a_row(kind: str) -> None:
    position = parse("position", {"kind": kind}).build(DIM, MAX_LEN)
    segments = mx.array([[0, 0, 0, 1, 1, 2, 2, 2, 2], [4, 4, 4, 4, 4, 4, 4, 0, 0]])
    at = mx.array([[0, 1, 2, 0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 0, 1]])
    x = mx.zeros((2, LENGTH, DIM))
    packed = position.embed(x, Context(Layout(segments=segments)))
    assert mx.array_equal(packed, position.embed(x, Context(Layout(positions=at))))
