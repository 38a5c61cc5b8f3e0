"""Embeddings and heads: scale, tying, bias and soft cap."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context, Layout

from . import embeds, heads, reference
from .suite import DIM, Row, difference, weights_of


@pytest.mark.parametrize("row", [row for row in embeds.ROWS if row.kind == "token"], ids=str)
def test_an_embedding_is_its_row_of_the_table_scaled_plus_its_position(row: Row) -> None:
    subject = row.subject()
    tokens, w = subject.inputs(), weights_of(subject)
    scale = row.config.get("scale", 1.0)
    scale = np.sqrt(DIM) if scale == "sqrt_dim" else scale
    expected = w["it.table.weight"][np.asarray(tokens)] * scale
    length = tokens.shape[1]
    if row.config.get("project") == "words":
        expected = reference.linear(expected, w, "it.project")
    if row.config.get("norm_of") == "words":
        expected = reference.norm(expected, reference.below(w, "it.norm"), row.config["norm"])
    if "n_types" in row.config:
        expected = expected + w["it.types.weight"][np.arange(length) % 2]
    if row.position["kind"] == "sinusoidal":
        expected = expected + reference.sinusoids(np.arange(length), DIM)
    if row.position["kind"] == "learned":
        expected = expected + w["position.table.weight"][:length]
    if row.config.get("project") == "bare_sum":
        expected = reference.linear(expected, w, "it.project")
    if "norm" in row.config and "norm_of" not in row.config:
        expected = reference.norm(expected, reference.below(w, "it.norm"), row.config["norm"])
    if "width" in row.config and "project" not in row.config:
        expected = reference.linear(expected, w, "it.project")
    np.testing.assert_allclose(subject(tokens, Context()), expected, rtol=1e-5, atol=1e-5)


def test_a_hidden_token_has_no_vector_and_the_others_of_its_row_make_up_for_it() -> None:
    subject = embeds.embed("hidden", zeroed=3).subject()
    plain = weights_of(subject)["it.table.weight"]
    tokens = np.array([[3, 1, 2, 3], [1, 2, 4, 3]])
    valid = mx.array([[True] * 4, [True, True, False, False]])
    y = subject(mx.array(tokens), Context(Layout(valid=valid)))
    expected = plain[tokens] * (tokens != 3)[..., None] * 0.88
    expected /= 1 - np.array([2 / 4, 1 / 2])[:, None, None]
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize("row", [row for row in heads.ROWS if row.kind != "tags"], ids=str)
def test_logits_are_the_formula_and_the_unembedding_says_the_same(row: Row) -> None:
    subject = row.subject()
    h, w = subject.inputs(), weights_of(subject)
    table = w["embedding.table.weight" if row.config["tied"] else "it.weight"]
    met = np.asarray(h, dtype=np.float64)
    if row.kind == "mlm":
        met = reference.ACTIVATIONS[row.config["activation"]](reference.linear(met, w, "it.map"))
        met = reference.norm(met, reference.below(w, "it.norm"), row.config["norm"])
    elif "width" in row.config:
        met = reference.linear(met, w, "it.project")
    expected = met * row.config.get("scale", 1.0) @ table.T + w.get("it.bias", 0.0)
    cap = row.config.get("softcap")
    expected = cap * np.tanh(expected / cap) if cap else expected
    np.testing.assert_allclose(subject(h, Context()), expected, rtol=1e-5, atol=1e-5)
    out = subject.it.unembedding(subject.embedding.table if "embedding" in subject else None)
    assert out.softcap == cap
    assert np.array_equal(out.weight, table.astype(np.float32))
    assert (out.bias is not None) == row.config.get("bias", False)


@pytest.mark.parametrize("row", [row for row in heads.ROWS if row.kind == "tags"], ids=str)
def test_tags_are_the_formula(row: Row) -> None:
    subject = row.subject()
    w, expected = weights_of(subject), np.asarray(subject.inputs(), dtype=np.float64)
    if "activation" in row.config:
        inner = reference.linear(expected, w, "it.map")
        expected = reference.ACTIVATIONS[row.config["activation"]](inner)
    if "norm" in row.config:
        expected = reference.norm(expected, reference.below(w, "it.norm"), row.config["norm"])
    expected = reference.linear(expected, w, "it.out")
    np.testing.assert_allclose(subject(subject.inputs(), Context()), expected, rtol=1e-5, atol=1e-5)


def test_a_tied_head_has_no_matrix_of_its_own_and_teaches_the_table() -> None:
    subject = heads.head("tied", tied=True).subject()
    assert set(weights_of(subject)) == {"embedding.table.weight"}
    grads = mx.grad(lambda p: (subject.update(p), subject(subject.inputs(), Context()).sum())[1])(
        subject.parameters()
    )
    assert float(mx.abs(grads["embedding"]["table"]["weight"]).max()) > 0


def test_a_softcap_bounds_the_logits() -> None:
    subject = heads.head("capped", tied=False, softcap=2.0).subject()
    x = subject.inputs() * 100
    assert float(mx.abs(subject(x, Context())).max()) <= 2.0
    free = heads.head("free", tied=False).subject()
    assert difference(free(x, Context()), subject(x, Context())) > 10
