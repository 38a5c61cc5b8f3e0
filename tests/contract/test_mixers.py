"""Attention against the formula in NumPy, and its decode state."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context, Layout
from mlx_transformers.core.errors import RecipeError

from . import mixers, reference
from .suite import BATCH, LENGTH, Row, difference, memory, weights_of

ROWS = [row for row in mixers.ROWS if row.kind == "attention"]
SEGMENTS = np.array([[0] * 3 + [1] * 4 + [0] * 2, [5] * 9])


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole_rows", "packed_rows"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_attention_is_the_formula(row: Row, causal: bool, segments: np.ndarray | None) -> None:
    subject = row.subject()
    x = subject.inputs()
    w = reference.below(weights_of(subject), "it")
    place = reference.below(weights_of(subject), "position")
    expected = reference.attention(
        np.asarray(x), w, row.config, row.position, causal, segments, place
    )
    marks = None if segments is None else mx.array(segments)
    y = subject(x, Context(Layout(causal=causal, segments=marks)))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["cross", "cross of groups"])
def test_cross_attention_reads_the_memory_and_not_its_padding(name: str) -> None:
    row = next(row for row in mixers.ROWS if row.name == name)
    subject = row.subject()
    x, known = subject.inputs(), memory(BATCH, mx.float32)
    w = reference.below(weights_of(subject), "it")
    expected = reference.attention(
        np.asarray(x), w, row.config, {"kind": "none"}, memory=np.asarray(known)
    )
    np.testing.assert_allclose(subject(x, Context()), expected, rtol=1e-5, atol=1e-5)
    valid = mx.array([[True, True, True, False, False]] * BATCH)
    expected = reference.attention(
        np.asarray(x), w, row.config, {"kind": "none"}, memory=np.asarray(known[:, :3])
    )
    y = subject(x, Context(memory_valid=valid))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunks", [[1] * 70, [5, 1, 30, 2, 1, 31], [70]], ids=len)
@pytest.mark.parametrize("window", [None, 1, 7], ids="window_{}".format)
def test_decoding_goes_on_long_after_the_window(window: int | None, chunks: list[int]) -> None:
    row = mixers.attention("decoding", n_kv_heads=2, window=window)
    subject = row.subject()
    x = subject.inputs(length=70)
    state, start, outs = subject.init_state(BATCH, 70), 0, []
    for n in chunks:
        y, state = subject.step(x[:, start : start + n], state)
        outs.append(y)
        start += n
    assert difference(mx.concatenate(outs, axis=1), subject(x, Context())) < 2e-5


@pytest.mark.parametrize("window", [None, 3], ids="window_{}".format)
def test_a_cache_in_half_precision_leaves_the_activations_in_float32(window: int | None) -> None:
    subject = mixers.attention("half", window=window).subject()
    x = subject.inputs()
    state, outs = subject.init_state(BATCH, LENGTH, mx.float16), []
    for part in mx.split(x, 3, axis=1):
        y, state = subject.step(part, state)
        outs.append(y)
    y = mx.concatenate(outs, axis=1)
    assert y.dtype == mx.float32
    assert {state["it"][name].dtype for name in "kv"} == {mx.float16}
    assert difference(y, subject(x, Context())) < 0.01


def test_a_window_keeps_a_ring_of_its_own_length() -> None:
    state = mixers.attention("ring", window=4).subject().init_state(BATCH, 1000)
    assert state["it"]["k"].shape == (BATCH, 4, 4, 4)
    assert mixers.attention("all").subject().init_state(BATCH, 6)["it"]["k"].shape[2] == 6


def test_grouped_queries_are_multi_head_attention_with_shared_keys_and_values() -> None:
    grouped = mixers.attention("grouped", n_kv_heads=2).subject()
    full = mixers.attention("full").subject(seed=3)
    for name in "qkvo":
        weight = grouped.it[name].weight
        if name in "kv":
            weight = mx.repeat(weight.reshape(2, 4, -1), 2, axis=0).reshape(16, -1)
        full.it[name].weight = weight
    x = grouped.inputs()
    assert difference(grouped(x, Context()), full(x, Context())) < 1e-5


def test_a_window_as_wide_as_the_sequence_is_no_window() -> None:
    x = mixers.ROWS[0].subject().inputs()
    wide = mixers.attention("wide", window=LENGTH).subject()
    assert difference(wide(x, Context()), mixers.ROWS[0].subject()(x, Context())) < 1e-6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_heads": 5}, "mixer.n_heads = 5 does not divide model.dim = 16"),
        ({"n_heads": 4, "n_kv_heads": 3}, "mixer.n_kv_heads = 3 does not divide"),
        ({"n_heads": 2, "n_kv_heads": 4}, "mixer.n_kv_heads = 4 does not divide"),
    ],
)
def test_heads_that_do_not_fit_are_an_error_that_says_so(fields: dict, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Row("mixer", "misfit", {"kind": "attention", **fields}).parse().build(16)


LATENT = [r for r in mixers.ROWS if r.kind == "latent" and r.position["kind"] in ("rope", "none")]


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
@pytest.mark.parametrize("row", LATENT, ids=str)
def test_latent_attention_is_the_formula(row: Row, causal: bool) -> None:
    subject = row.subject()
    x = subject.inputs()
    w = reference.below(weights_of(subject), "it")
    expected = reference.latent(np.asarray(x), w, row.config, row.position, causal)
    np.testing.assert_allclose(
        subject(x, Context(Layout(causal=causal))), expected, rtol=1e-5, atol=1e-5
    )


def test_latent_attention_keeps_one_short_vector_and_one_turned_key_per_token() -> None:
    state = Row("mixer", "latent", mixers.LATENT).subject().init_state(BATCH, 10)["it"]
    assert state["k"].shape == (BATCH, 1, 10, 4)
    assert state["v"].shape == (BATCH, 1, 10, 6)
