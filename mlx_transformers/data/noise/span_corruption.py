"""Span corruption: spans of a text are replaced by sentinels, and the target lists them.

Raffel et al. 2020 (T5), section 3.1.4 and figure 2; lengths as in their code.
"""

from collections.abc import Sequence

import numpy as np


def span_counts(n: int, density: float, mean_span: float) -> tuple[int, int]:
    """Return how many of n tokens are noise, `round(n density)`, and in how many spans,
    `round(noise / mean_span)`: at least one of each, with a token left between spans."""
    noise = min(max(round(n * density), 1), n - 1)
    spans = max(round(noise / mean_span), 1)
    return noise, min(spans, n - noise)


def lengths_for(inputs: int, density: float, mean_span: float) -> tuple[int, int]:
    """Return the most tokens of text whose corrupted form, with an end token, fits in `inputs`, and
    the length of its target with an end token."""
    n = inputs
    while True:
        noise, spans = span_counts(n + 1, density, mean_span)
        if n + 1 - noise + spans + 1 > inputs:
            break
        n += 1
    noise, spans = span_counts(n, density, mean_span)
    return n, noise + spans + 1


def partition(n: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Cut n into `parts` random lengths of at least 1, uniform over all ways: int [parts]."""
    cuts = np.sort(rng.permutation(n - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [n]]))


def noise_mask(n: int, density: float, mean_span: float, rng: np.random.Generator) -> np.ndarray:
    """Draw which of n >= 2 tokens are noise: bool [n]; kept and noise spans alternate, kept
    first."""
    noise, spans = span_counts(n, density, mean_span)
    removed, kept = partition(noise, spans, rng), partition(n - noise, spans, rng)
    lengths = np.stack([kept, removed], axis=1).ravel()
    return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)


def with_sentinels(tokens: np.ndarray, removed: np.ndarray, sentinels: Sequence[int]) -> np.ndarray:
    """Replace the i-th run of `removed` tokens [n] by the i-th sentinel."""
    first = removed & ~np.concatenate([[False], removed[:-1]])
    marks = np.asarray(sentinels)[np.cumsum(first) - 1]
    marked: np.ndarray = np.where(first, marks, tokens)
    kept: np.ndarray = marked[first | ~removed]
    return kept


def corrupted(
    tokens: np.ndarray,
    density: float,
    mean_span: float,
    sentinels: Sequence[int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return source and target of tokens [n]: the target lists the spans removed from the source,
    each after its sentinel. Neither has an end token.

    Raises:
        ValueError: more spans than sentinels.
    """
    if len(tokens) < 2:
        return tokens, tokens[:0]
    _, spans = span_counts(len(tokens), density, mean_span)
    if spans > len(sentinels):
        raise ValueError(f"{spans} spans need as many sentinels, and there are {len(sentinels)}.")
    removed = noise_mask(len(tokens), density, mean_span, rng)
    source = with_sentinels(tokens, removed, sentinels)
    return source, removed_spans(tokens, removed, sentinels)


def removed_spans(tokens: np.ndarray, removed: np.ndarray, sentinels: Sequence[int]) -> np.ndarray:
    """Return the runs of `removed` tokens, each after its sentinel."""
    first = removed & ~np.concatenate([[False], removed[:-1]])
    out: list[int] = []
    spans = -1
    for token, is_first, is_removed in zip(tokens.tolist(), first, removed, strict=True):
        if is_first:
            spans += 1
            out.append(int(sentinels[spans]))
        if is_removed:
            out.append(token)
    return np.asarray(out, dtype=tokens.dtype)
