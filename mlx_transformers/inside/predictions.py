"""Predictions of a model and of each of its layers (the logit lens)."""

from dataclasses import dataclass
from typing import cast

import mlx.core as mx
import numpy as np

from .reading import Reading

ALTERNATIVES = 5
"""Tokens that are listed for a position."""


@dataclass(frozen=True)
class Predictions:
    """Probabilities of the tokens of a text.

    A language model predicts token t at position t - 1, so its first token has no prediction
    (NaN, rank -1), and the last position predicts a token that isn't there yet. Tokens that the
    tokenizer lacks have none either.

    Attributes:
        probability: of each token, `[T]`.
        surprise: `-log2` of it, in bits, `[T]`.
        rank: tokens that were more probable, `[T]`.
        top: texts of the most probable tokens at each position, `[T][ALTERNATIVES]`.
        top_probability: their probabilities, `[T, ALTERNATIVES]`.
    """

    probability: np.ndarray
    surprise: np.ndarray
    rank: np.ndarray
    top: list[list[str]]
    top_probability: np.ndarray


@dataclass(frozen=True)
class Lens:
    """Predictions from the output of one layer (nostalgebraist 2020, "interpreting GPT").

    Attributes:
        top: text of the most probable token at each position, `[T]`.
        probability: that of the token which the model ends up with, `[T]`.
        rank: tokens more probable than that one, `[T]`.
    """

    top: list[str]
    probability: np.ndarray
    rank: np.ndarray


def log_probs(logits: mx.array) -> mx.array:
    """Log-probabilities `[..., V]` of logits, in nats."""
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def best(logits: mx.array) -> int:
    """The most probable token by logits `[V]`."""
    return int(np.array(mx.argmax(logits)))


def predict(reading: Reading, logits: mx.array) -> Predictions:
    """Read the predictions of a pass with `logits [T, V]`."""
    logps = log_probs(logits)
    skip = 1 if reading.ahead else 0
    tokens = np.array(reading.tokens[skip:], dtype=np.int32)  # of one token none follow
    in_vocabulary = tokens < reading.vocab_size  # tokens of a picture's patches may be beyond it
    at = logps[: len(tokens)]
    token_logp = mx.take_along_axis(
        at, mx.array(np.where(in_vocabulary, tokens, 0))[:, None], axis=-1
    )
    rank = np.where(in_vocabulary, np.array((at > token_logp).sum(axis=-1)), -1)
    first = mx.argsort(-logps, axis=-1)[:, :ALTERNATIVES]
    top = mx.exp(mx.take_along_axis(logps, first, axis=-1))
    nats = np.concatenate(
        [np.full(skip, np.nan), np.where(in_vocabulary, np.array(token_logp[:, 0]), np.nan)]
    )
    ids = cast(list[list[int]], first.tolist())
    return Predictions(
        probability=np.exp(nats),
        surprise=-nats / np.log(2),
        rank=np.concatenate([np.full(skip, -1), rank]),
        top=[[reading.text(token) for token in row] for row in ids],
        top_probability=np.array(top),
    )


def lens(reading: Reading, output: mx.array, logits: mx.array) -> Lens | None:
    """Read the predictions of a layer's `output [1, T, D]`.

    Args:
        reading: the text.
        output: of the layer.
        logits: `[T, V]`, those that the model ends up with.

    Returns:
        None where the model's head can't read a layer's output.
    """
    h = reading.model.exit(output[0, -len(reading.tokens) :])
    if h is None:
        return None
    logps = log_probs(reading.unembedded(h))
    final = mx.argmax(logits, axis=-1)[:, None]
    final_logp = mx.take_along_axis(logps, final, axis=-1)
    tops = cast(list[int], mx.argmax(logps, axis=-1).tolist())
    return Lens(
        top=[reading.text(token) for token in tops],
        probability=np.array(mx.exp(final_logp[:, 0])),
        rank=np.array((logps > final_logp).sum(axis=-1)),
    )
