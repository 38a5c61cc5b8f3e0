"""Answers of a real model: the text of `generate`, with log-probabilities."""

import numpy as np
import pytest
from contract.suite import VOCAB, parse
from decode.models import decoder

from mlx_transformers.chat.assistant import Assistant, Request
from mlx_transformers.core.errors import RunError
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.decode.generate import generate
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.decode.windows import continuation_window, score_windows


@pytest.fixture(scope="module")
def assistant():
    return Assistant(decoder(context=48, vocab_size=256), ByteTokenizer(), None)


def test_a_stream_is_the_text_of_generate_and_keeps_its_compiled_step(assistant):
    options = {"max_tokens": 12, "sampling": Sampling(1.0), "seed": 3}
    prompt = b"hello"
    whole = generate(assistant.model, ByteTokenizer(), list(prompt), **options)
    for _ in range(2):
        pieces = list(assistant.stream(Request(list(prompt), 12, Sampling(1.0), 3)))
        assert "".join(piece.text for piece in pieces) == whole
        assert (pieces[-1].end, pieces[-1].n_tokens) == ("length", 12)
    assert len(assistant._engines) == 1


def test_log_probabilities_are_those_of_the_whole_text(assistant):
    pieces = list(assistant.stream(Request(list(b"hello"), 6, Sampling(0.0), top=3)))
    known = [piece.token for piece in pieces if piece.token]
    window = continuation_window(list(b"hello"), [token.token for token in known], 48)
    (score,) = score_windows(assistant.model, [window])
    assert sum(token.logprob for token in known) == pytest.approx(score.loglikelihood, abs=1e-4)
    for token in known:
        assert (token.top[0][0], token.top[0][1]) == (token.token, pytest.approx(token.logprob))
        assert np.all(np.diff([logp for _, logp in token.top]) <= 0)
        assert len(token.top) == 3


def test_prompts_that_leave_no_room_and_models_without_a_template_are_refused(assistant):
    with pytest.raises(RunError, match="Shorten it"):
        next(assistant.stream(Request([1] * 48)))
    with pytest.raises(RunError, match="--template"):
        _ = assistant.format
    assert assistant.room(512) == 24


def test_a_model_that_writes_nothing_is_named():
    model = parse("model", {"kind": "word_vectors", "dim": 6}).build(VOCAB)
    with pytest.raises(RunError, match="model is a table of word vectors, so it can't answer"):
        Assistant(model, ByteTokenizer(), None)
