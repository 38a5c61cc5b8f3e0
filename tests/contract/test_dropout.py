"""Dropout: its rate, its mean, and where it falls."""

import math

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context

from .embeds import embed
from .ffns import GLU, MLP, MOE, ffn
from .mixers import attention
from .suite import Row

MANY = 3000

LINEAR_AFTER = [
    ffn("mlp", MLP | {"dropout": 0.4}),
    ffn("glu", GLU | {"dropout": 0.4}),
    ffn("moe", MOE | {"expert": GLU | {"dropout": 0.4}}),
    attention("attention", dropout=0.4),
    attention("grouped window", dropout=0.4, n_kv_heads=2, window=4),
    embed("embed", dropout=0.4),
]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_zeroes_its_rate_and_scales_the_rest(rate: float) -> None:
    x = mx.ones((200, 300))
    y = np.asarray(Context(key=mx.random.key(0)).dropout(x, rate))
    dropped = (y == 0).mean()
    assert abs(dropped - rate) < 5 * math.sqrt(rate * (1 - rate) / y.size)
    assert np.allclose(y[y != 0], 1 / (1 - rate))


def test_every_dropout_of_a_pass_draws_a_mask_of_its_own() -> None:
    ctx, x = Context(key=mx.random.key(0)), mx.ones((100,))
    assert not mx.array_equal(ctx.dropout(x, 0.5), ctx.dropout(x, 0.5))


@pytest.mark.parametrize("row", LINEAR_AFTER, ids=str)
def test_the_mean_over_masks_is_the_output_without_dropout(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs(batch=1, length=5)
    truth = np.asarray(subject(x, Context()))[0]
    many = mx.repeat(x, MANY, axis=0)
    y = np.asarray(subject(many, Context(key=mx.random.key(1))), dtype=np.float64)
    error = y.std(axis=0) / math.sqrt(MANY)
    assert (error > 0).mean() > 0.5
    assert (np.abs(y.mean(axis=0) - truth) < 5 * error + 1e-5).all()


def test_dropout_of_an_embedding_falls_on_features_at_its_rate() -> None:
    subject = embed("embed", "learned", dropout=0.25).subject()
    tokens = subject.inputs(batch=200)
    y = np.asarray(subject(tokens, Context(key=mx.random.key(2))))
    truth = np.asarray(subject(tokens, Context()))
    kept = y != 0
    assert abs(1 - kept.mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / y.size)
    np.testing.assert_allclose(y[kept], truth[kept] / 0.75, rtol=1e-5)


def test_attention_drops_whole_weights_and_does_not_renormalise() -> None:
    # The first token sees one key: its output is nothing or 1 / (1 - rate) of the truth, by head.
    subject = attention("first token", dropout=0.5).subject()
    subject.it.o.weight = mx.eye(16)
    x = subject.inputs(batch=400, length=2)
    y = np.asarray(subject(x, Context(key=mx.random.key(0))))[:, 0].reshape(400, 4, 4)
    truth = np.asarray(subject(x, Context()))[:, 0].reshape(400, 4, 4)
    dropped = (y == 0).all(axis=-1)
    assert abs(dropped.mean() - 0.5) < 5 * 0.5 / math.sqrt(dropped.size)
    np.testing.assert_allclose(y[~dropped], 2 * truth[~dropped], rtol=1e-5)
