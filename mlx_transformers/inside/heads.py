"""Scores that tell kinds of attention heads apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .reading import Reading
from .trace import Trace

NAMED = 0.4
"""A head is named by a score of at least this share of its attention ..."""
ABOVE_EVEN = 2.5
"""... that is this many times what even attention would give."""
REPEATED = 24
"""Random tokens of the sequence that is repeated to find induction heads."""


@dataclass(frozen=True)
class Head:
    """Shares of a head's attention, means over the positions that have the key in question.

    Attributes:
        layer, head: its place, from 0.
        previous: attention to the token before.
        sink: attention to the first token (Xiao et al. 2023).
        induction: attention to tokens that followed an earlier occurrence of the same token (Olsson
            et al. 2022, "In-context Learning and Induction Heads"); NaN where no token of the text
            occurs twice.
        repeated: `induction` on random tokens, twice in a row; NaN where it isn't measured.
        name: `previous token`, `induction`, `first token`, or "".
    """

    layer: int
    head: int
    previous: float
    sink: float
    induction: float
    repeated: float
    name: str


def head_scores(reading: Reading, weights: Sequence[tuple[str, np.ndarray | None]]) -> list[Head]:
    """Score the heads of every layer.

    Args:
        reading: the text.
        weights: tower and `[H, T, T]` of each layer; encoders of a source are left out.
    """
    tokens = reading.tokens
    if len(tokens) < 2:
        return []
    again = repeated_tokens(reading)
    weights_again = _weights_of(reading, again) if again is not None else {}
    out = []
    for layer, (tower, matrix_of_heads) in enumerate(weights):
        if (
            matrix_of_heads is None
            or matrix_of_heads.shape[-1] != len(tokens)
            or (tower == "encoder" and reading.source)
        ):
            continue
        for head, matrix in enumerate(np.abs(matrix_of_heads)):
            rows = matrix / np.maximum(matrix.sum(axis=-1, keepdims=True), 1e-9)
            repeated = float("nan")
            if again is not None and layer in weights_again:
                repeated = induction(weights_again[layer][head], again)
            out.append(_head(layer, head, rows, tokens, repeated))
    return out


def _head(layer: int, head: int, rows: np.ndarray, tokens: Sequence[int], repeated: float) -> Head:
    length = len(tokens)
    previous = float(np.diagonal(rows, -1).mean())
    sink = float(rows[1:, 0].mean())
    score_induction = induction(rows, tokens)
    even = float(np.mean(1.0 / np.arange(2, length + 1)))
    scores = {"previous token": previous, "first token": sink, "induction": score_induction}
    scores["induction"] = np.nanmax([score_induction, repeated, 0.0])
    name, score = max(scores.items(), key=lambda item: item[1])
    if score < max(NAMED, min(ABOVE_EVEN * even, 0.9)):
        name = ""
    return Head(layer, head, previous, sink, score_induction, repeated, name)


def induction(rows: np.ndarray, tokens: Sequence[int]) -> float:
    """Mean attention `rows [T, T]` to tokens after earlier occurrences of the same token; NaN
    where nothing repeats."""
    length = len(tokens)
    same = np.equal.outer(tokens, tokens) & np.tri(length, k=-1, dtype=bool)
    after = np.zeros((length, length), bool)
    after[:, 1:] = same[:, :-1]  # the key after an earlier occurrence
    after &= np.tri(length, k=-1, dtype=bool)
    queries = after.any(axis=-1)
    return float((rows * after).sum(axis=-1)[queries].mean()) if queries.any() else float("nan")


def repeated_tokens(reading: Reading) -> list[int] | None:
    """Random tokens, twice in a row; None where the model isn't a causal language model."""
    if not reading.ahead or reading.source or set(reading.arrays) != {"tokens"}:
        return None
    size = min(reading.tokenizer.text_vocab_size, reading.vocab_size)
    half = min(REPEATED, reading.model.max_seq_len // 2)
    drawn = np.random.default_rng(0).choice(size, half, replace=size < half)
    return [*map(int, drawn), *map(int, drawn)]


def _weights_of(reading: Reading, tokens: list[int]) -> dict[int, np.ndarray]:
    """Attention `[H, T, T]` of the layers while they read other tokens."""
    trace = Trace()
    ctx = reading.context(trace)
    x = reading.model.embedded({"tokens": mx.array([tokens])}, ctx)
    reading.model.features(x, ctx)
    arrays = {i: layer.arrays.get("attention") for i, layer in enumerate(trace.layers)}
    return {
        i: np.array(array[0].astype(mx.float32)) for i, array in arrays.items() if array is not None
    }
