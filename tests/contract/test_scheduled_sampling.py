"""Scheduled sampling: how often, when, and that nothing is learned through a draw."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context
from mlx_transformers.layers.scheduled_sampling import ScheduledSampling

from .recurrent import BAHDANAU
from .suite import VOCAB, Row


@pytest.mark.parametrize(
    ("curve", "shares"),
    [
        ("constant", [0.8, 0.8, 0.8]),
        ("linear", [0.0, 0.4, 0.8]),
        ("sigmoid", [0.0, 0.4, 0.8]),
    ],
)
def test_the_share_follows_its_curve(curve: str, shares: list[float]) -> None:
    sampler = ScheduledSampling(share=0.8, curve=curve).build()
    found = [float(sampler.at(mx.array(done))) for done in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(found, shares, atol=3e-3)
    assert float(sampler.at(None)) == found[-1]


def test_the_sigmoid_is_slow_at_both_ends() -> None:
    sampler = ScheduledSampling(share=1.0, curve="sigmoid").build()
    assert float(sampler.at(mx.array(0.2))) < 0.05
    assert float(sampler.at(mx.array(0.8))) > 0.95


def test_own_tokens_are_read_at_their_share_and_come_from_the_predictions() -> None:
    sampler = ScheduledSampling(share=0.3).build()
    batch, length = 200, 30
    choose = sampler.chooser(
        (batch, length),
        lambda y: mx.where(mx.arange(VOCAB) == 5, 50.0, 0.0) + 0 * y[:, :1],
        lambda tokens: tokens[..., None].astype(mx.float32),
        Context(key=mx.random.key(0)),
    )
    given = mx.full((batch, 1), -1.0)
    read = np.stack([choose(t, given, mx.zeros((batch, 1))) for t in range(length)])
    assert set(np.unique(read)) == {-1.0, 5.0}
    share, n = (read == 5.0).mean(), read.size
    assert abs(share - 0.3) < 5 * np.sqrt(0.3 * 0.7 / n)


def test_all_inputs_but_the_first_can_be_its_own() -> None:
    subject = Row("model", "own", BAHDANAU | {"sampling": {"share": 1.0}}).subject()
    tokens = subject.inputs()
    other = mx.concatenate([tokens[:, :1], (tokens[:, 1:] + 1) % VOCAB], axis=1)

    def run(tokens: mx.array) -> mx.array:
        return subject(tokens, Context(key=mx.random.key(0)))

    assert mx.array_equal(run(tokens), run(other))
    assert not mx.array_equal(run(tokens), run((tokens + 1) % VOCAB))
