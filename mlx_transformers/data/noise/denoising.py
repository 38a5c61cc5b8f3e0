"""The five noise functions of BART: Lewis et al. 2020, section 2.2 and figure 2."""

from collections.abc import Sequence

import numpy as np


def token_masking(
    tokens: np.ndarray, share: float, mask: int, rng: np.random.Generator
) -> np.ndarray:
    """Replace a share of the tokens [n] by the mask token, as in BERT without its random and
    unchanged cases."""
    out = tokens.copy()
    out[rng.permutation(len(tokens))[: round(len(tokens) * share)]] = mask
    return out


def token_deletion(tokens: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Delete a share of the tokens [n]; the model has to find the positions."""
    deleted = rng.permutation(len(tokens))[: round(len(tokens) * share)]
    return np.delete(tokens, deleted)


def text_infilling(
    tokens: np.ndarray, share: float, mean_span: float, mask: int, rng: np.random.Generator
) -> np.ndarray:
    """Replace spans with lengths from Poisson(`mean_span`) by one mask token each, until `share` of
    the tokens [n] is replaced; a span of length 0 inserts a mask.

    Spans neither overlap nor touch, so the number of masks is the number of spans.
    """
    n, left = len(tokens), round(len(tokens) * share)
    lengths = _span_lengths(left, mean_span, rng)
    gaps = n - sum(lengths)
    lengths = lengths[: max(0, gaps + 1)]
    # At most one span per gap between the remaining tokens.
    places = np.sort(rng.permutation(n - sum(lengths) + 1)[: len(lengths)])
    kept_before = np.diff(np.concatenate([[0], places]))
    out: list[np.ndarray] = []
    at = 0
    for kept, length in zip(kept_before.tolist(), lengths, strict=True):
        out += [tokens[at : at + kept], np.array([mask], tokens.dtype)]
        at += kept + length
    return np.concatenate([*out, tokens[at:]])


def _span_lengths(total: int, mean_span: float, rng: np.random.Generator) -> list[int]:
    """Return lengths from Poisson(`mean_span`) that sum to `total`, the last one cut to fit."""
    lengths: list[int] = []
    left = total
    while left > 0:
        length = min(int(rng.poisson(mean_span)), left)
        lengths.append(length)
        left -= length
    return lengths


def sentence_permutation(
    sentences: Sequence[np.ndarray], rng: np.random.Generator
) -> list[np.ndarray]:
    """Return the sentences in random order."""
    return [sentences[i] for i in rng.permutation(len(sentences))]


def document_rotation(tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate tokens [n] to begin at a random one; the model has to find the start."""
    return np.roll(tokens, -int(rng.integers(0, max(1, len(tokens)))))
