"""Continuous batching: every prompt gets the tokens that it gets alone, from one traced step."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RunError
from mlx_transformers.decode.continuous import ContinuousEngine
from mlx_transformers.decode.engine import Engine
from mlx_transformers.decode.sample import Sampling

from .models import VOCAB, decoder, lstm

END = 3
DRAWN = Sampling(temp=0.9, top_p=0.95)


def prompts_of(n, longest=9):
    rng = np.random.default_rng(1)
    return [rng.integers(0, VOCAB, rng.integers(1, longest)).tolist() for _ in range(n)]


def alone(model, prompt, seed, limit):
    engine, found = Engine(model, sampling=DRAWN), []
    engine.start([prompt], [seed])
    for (token,) in engine.tokens(limit):
        found.append(token)
        if token == END:
            break
    return found


@pytest.mark.parametrize(
    "model",
    [lambda: decoder(context=24), lambda: decoder(window=5), lstm],
    ids=["short context", "window", "recurrent"],
)
def test_every_prompt_gets_what_it_gets_alone(model):
    model, prompts = model(), prompts_of(6)
    engine = ContinuousEngine(model, rows=2, sampling=DRAWN)
    found = engine.complete(prompts, range(6), max_tokens=8, ends=frozenset({END}))
    for seed, (prompt, completion) in enumerate(zip(prompts, found, strict=True)):
        assert completion.tokens == alone(model, prompt, seed, 8)
        assert completion.ended == (completion.tokens[-1] == END)
    assert len(set(engine.traces)) == 1
    assert engine.steps < 6 * 8 / 2 + 8


def test_rows_that_end_together_make_room_without_reading_any_again():
    model, prompts = decoder(), prompts_of(6)
    engine = ContinuousEngine(model, rows=2, sampling=DRAWN)
    read: list[int] = []
    inner = engine._read
    engine._read = lambda rows, offset: read.append(len(rows)) or inner(rows, offset)
    found = engine.complete(prompts, range(6), max_tokens=20)
    assert [len(one.tokens) for one in found] == [20] * 6
    assert read == [2, 2, 2]


def test_log_probs_are_those_of_the_whole_pass_at_the_temperature():
    model, prompt = decoder(), [5, 6, 7]
    engine = ContinuousEngine(model, rows=2, sampling=Sampling(temp=0.7))
    (found,) = engine.complete([prompt], [4], max_tokens=6)
    logits = model(mx.array([prompt + found.tokens]), Context())[0] / 0.7
    logp = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    wanted = [logp[len(prompt) - 1 + i, token] for i, token in enumerate(found.tokens)]
    assert np.allclose(found.logps, wanted, atol=1e-4)


@pytest.mark.compiled
def test_new_weights_are_used_without_a_new_trace():
    model, prompts = decoder(), prompts_of(3)
    engine = ContinuousEngine(model, rows=2, sampling=Sampling(temp=0))
    before = engine.complete(prompts, range(3), max_tokens=4)
    model.update({"embed": {"table": {"weight": -model.embed.table.weight}}})
    after = engine.complete(prompts, range(3), max_tokens=4)
    assert [c.tokens for c in before] != [c.tokens for c in after]
    assert engine.traces == [2]


def test_a_row_that_does_not_fit_the_context_is_refused():
    engine = ContinuousEngine(decoder(context=24), rows=2)
    with pytest.raises(RunError, match="context of 24"):
        engine.complete([[1] * 20], [0], max_tokens=8)
    with pytest.raises(RunError, match="at least one token"):
        engine.complete([[]], [0], max_tokens=8)
