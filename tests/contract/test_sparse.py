"""Sparse patterns: left padding while decoding, long streams, and values that don't fit."""

import mlx.core as mx
import numpy as np
import pytest
from pydantic import ValidationError

from mlx_transformers.core.context import Context, Cursor, Layout
from mlx_transformers.core.errors import RecipeError, RunError

from . import sparse
from .suite import DIM, LENGTH, MAX_LEN, Row, difference, parse

DECODING = [row for row in sparse.ROWS if not row.whole]


@pytest.mark.parametrize("chunks", [[1] * 6, [4, 2]], ids=str)
@pytest.mark.parametrize("row", DECODING, ids=str)
def test_a_row_with_padding_on_the_left_decodes_as_without(row: Row, chunks: list[int]) -> None:
    subject, pad = row.subject(), 2
    x = subject.inputs(batch=1, length=sum(chunks))
    alone = subject(x[:, pad:], Context())
    state, start, outs = subject.it.init_state(1, LENGTH, mx.float32), 0, []
    for n in chunks:
        index = mx.maximum(mx.arange(n)[None] + start - pad, 0)
        cursor = Cursor(offset=mx.array(start), pad=mx.array([pad]))
        ctx = Context(Layout(positions=index), cursor, position=subject.position)
        y, state = subject.it.step(x[:, start : start + n], state, ctx)
        outs.append(y)
        start += n
    assert difference(mx.concatenate(outs, axis=1)[:, pad:], alone) < 2e-5


def test_a_stream_keeps_its_first_tokens_in_a_cache_of_constant_size() -> None:
    row = sparse.streaming("stream", first=2, window=4)
    subject = row.subject()
    x = subject.inputs(length=40)
    state, outs = subject.init_state(x.shape[0], 40), []
    for t in range(40):
        y, state = subject.step(x[:, t : t + 1], state)
        outs.append(y)
    assert state["it"]["k"].shape[2] == 6
    assert sorted(state["it"]["pos"][0].tolist()) == [0, 1, 36, 37, 38, 39]
    assert difference(mx.concatenate(outs, axis=1), subject(x, Context())) < 2e-5


def test_first_tokens_of_packed_rows_are_those_of_the_document() -> None:
    subject = sparse.streaming("packed", first=2, window=2).subject()
    x = subject.inputs(batch=1, length=14)
    segments = mx.array([[0] * 6 + [1] * 8])
    packed = subject(x, Context(Layout(segments=segments)))
    for part in (slice(0, 6), slice(6, 14)):
        assert difference(packed[:, part], subject(x[:, part], Context())) < 2e-5


def test_global_tokens_may_be_named_by_the_pass() -> None:
    subject = sparse.longformer("named", n=0).subject()
    x = subject.inputs(batch=2)
    named = mx.array([[1] + [0] * 8, [0] * 4 + [1] + [0] * 4])
    both = subject(x, Context(Layout(global_tokens=named)))
    first = sparse.longformer("first", n=1).subject()
    assert difference(both[:1], first(x[:1], Context())) < 2e-5
    changed = np.abs(np.array(both[1] - subject(x, Context())[1])).max(axis=-1) > 1e-4
    # the two beside it have it in their windows already
    assert changed.tolist() == [t not in (3, 5) for t in range(LENGTH)]


MISFITS = [
    ({"pattern": "fixed", "summary": 3, "verts": 2}, "6 keys don't fit in a block of"),
    ({"verts": 2}, "belong to pattern = 'fixed'"),
    ({"stride": 0}, "greater than or equal to 1"),
]


@pytest.mark.parametrize(("fields", "said"), MISFITS)
def test_values_that_do_not_fit_are_refused_as_they_are_read(fields: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        parse("mixer", {"kind": "sparse_transformer", "n_heads": 4, "stride": 4, **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"kind": "sparse_transformer", "stride": 8, "pattern": "fixed", "verts": 3},
            "mixer.n_heads = 4 can't be divided into 3 groups",
        ),
        (
            {"kind": "longformer", "window": 2, "dilation": [1, 2]},
            "mixer.dilation has 2 entries for mixer.n_heads = 4",
        ),
    ],
)
def test_heads_that_do_not_fit_are_refused_with_the_cure(fields: dict, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse("mixer", {"n_heads": 4, **fields}).build(DIM)


def test_global_tokens_do_not_decode() -> None:
    for row in sparse.ROWS:
        if row.whole:
            with pytest.raises(RunError, match="Use it in an encoder"):
                row.subject().it.init_state(1, MAX_LEN, mx.float32)
