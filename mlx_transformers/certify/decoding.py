"""Rows about decoding: the same logits from a cache, and in a batch."""

from itertools import count
from typing import Any

import mlx.core as mx

from ..core.context import Context
from ..decode.engine import VECTOR, Engine
from ..models.model import Decodable, causal_decoder, last
from .difference import largest_difference
from .row import DoesNotApply, Measured, Row, tokens_of
from .subject import ROWS, Subject, eager

FIGURE = "difference of the logits as a share of the largest"
NOT_GIVEN = {"tokens", "weights", "segments", "starts", "labels"}
"""Arrays of a batch that condition no row."""
STEPS = 8
"""Tokens that are generated behind each prompt."""


def cached(subject: Subject) -> Measured:
    """Compare the logits of a whole row with those of a token at a time."""
    model, batch = subject.plain.model, subject.batch
    if not isinstance(model, Decodable):
        raise DoesNotApply("The model reads whole rows and generates nothing.")
    tokens = tokens_of(subject)[:, :-1]
    rows, length = tokens.shape
    inputs = {name: array for name, array in batch.items() if name not in NOT_GIVEN}
    with eager():
        ctx = Context()
        h = model.hidden(model.embedded({**inputs, "tokens": tokens}, ctx), ctx)
        head = model.unembedding()
        assert head is not None, "a model that generates has a head over the vocabulary"
        full = head.logits_upcast(last(h, length))
        read, prompt = tokens, model.soft_prompt()
        if prompt is not None:
            inputs["vectors"] = mx.broadcast_to(prompt, (rows, *prompt.shape))
            read = mx.concatenate([mx.full((rows, len(prompt)), VECTOR), tokens], axis=1)
        n = read.shape[1]
        state = model.init_state(rows, n, total_length=n, given=inputs)
        steps = []
        for t in range(n):
            logits, state = model.step(read[:, t : t + 1].astype(mx.int32), state)
            mx.eval(logits, state)
            steps.append(logits)
        stepped = mx.concatenate(steps, axis=1)[:, -length:]
    return Measured(largest_difference(full, stepped))


def batched(subject: Subject) -> Measured:
    """Compare prompts, or sources, of several lengths in one batch with each alone."""
    model = causal_decoder(subject.plain.model)
    if model is None:
        return padded(subject)
    tokens = tokens_of(subject)
    room = min(tokens.shape[1], model.max_seq_len) - STEPS
    lengths = [max(1, room * (i + 1) // ROWS) for i in range(ROWS)]
    prompts = [mx.maximum(row[:n], 0).tolist() for row, n in zip(tokens, lengths, strict=True)]
    worst = 0.0
    with eager():
        engine = Engine(model, observe=lambda logits, drawn: {"logits": logits})
        together = _generated(engine, prompts)
        for i, prompt in enumerate(prompts):
            for step, ours, (drawn, logits) in zip(
                count(), together, _generated(engine, [prompt]), strict=False
            ):
                worst = max(worst, largest_difference(logits[0], ours[1][i]))
                if drawn[0] != ours[0][i] or step + 1 == STEPS:
                    break  # what follows another token is another text
    return Measured(worst)


def padded(subject: Subject) -> Measured:
    """Compare sources of several lengths, padded in one batch, with each alone."""
    model, batch = subject.plain.model, subject.batch
    if not isinstance(model, Decodable) or "source" not in batch or batch["source"].ndim != 2:
        raise DoesNotApply("The model continues no prompts, and writes for no source of tokens.")
    source, tokens = batch["source"], batch["tokens"][:, :-1]
    lengths = [max(1, source.shape[1] * (i + 1) // ROWS) for i in range(ROWS)]
    valid = mx.arange(source.shape[1])[None] < mx.array(lengths)[:, None]
    worst = 0.0
    with eager():
        together = _written(model, mx.where(valid, source, 0), valid, tokens)
        for i, n in enumerate(lengths):
            row = slice(i, i + 1)
            alone = _written(model, source[row, :n], valid[row, :n], tokens[row])
            worst = max(worst, largest_difference(alone, together[row]))
    return Measured(worst)


def _written(model: Decodable, source: mx.array, valid: mx.array, tokens: mx.array) -> mx.array:
    """The logits of a target for a source."""
    ctx, head = Context(), model.unembedding()
    assert head is not None, "a model that generates has a head over the vocabulary"
    batch = {"source": source, "source_valid": valid, "tokens": tokens}
    return head.logits_upcast(model.hidden(model.embedded(batch, ctx), ctx))


def _generated(engine: Engine, prompts: list[Any]) -> list[tuple[list[int], mx.array]]:
    engine.start(prompts)
    return [(drawn, engine.observed["logits"]) for drawn in engine.tokens(STEPS)]


DECODING = (
    Row(
        "cached = uncached",
        "Decoding token by token from the cache has the logits of one pass over the row.",
        FIGURE,
        1e-4,
        cached,
    ),
    Row(
        "batch of prompts = one by one",
        "A prompt, or a source, in a batch with longer ones has the logits that it has alone.",
        FIGURE,
        1e-4,
        batched,
    ),
)
"""Rows about decoding."""
