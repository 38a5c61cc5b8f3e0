"""Span corruption: spans of a text are replaced by sentinels, and the target tells them.

Raffel et al. 2020 (T5), section 3.1.4 and figure 2; lengths as in their code.
"""

from collections.abc import Sequence

import numpy as np


def span_counts(n: int, density: float, mean_span: float) -> tuple[int, int]:
    """How many of n tokens are noise, and in how many spans: `round(n density)` of them, in
    `round(noise / mean_span)` spans, at least one of each, and a token is left between spans."""
    noise = min(max(round(n * density), 1), n - 1)
    spans = max(round(noise / mean_span), 1)
    return noise, min(spans, n - noise)


def lengths_for(inputs: int, density: float, mean_span: float) -> tuple[int, int]:
    """The most tokens of text whose corrupted form, with an end token, fits in `inputs`; and the
    length of its target, with its end token."""
    n = inputs
    while True:
        noise, spans = span_counts(n + 1, density, mean_span)
        if n + 1 - noise + spans + 1 > inputs:
            break
        n += 1
    noise, spans = span_counts(n, density, mean_span)
    return n, noise + spans + 1


def partition(n: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """n cut into `parts` lengths of at least 1, every way as likely: int [parts]."""
    cuts = np.sort(rng.permutation(n - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [n]]))


def noise_mask(n: int, density: float, mean_span: float, rng: np.random.Generator) -> np.ndarray:
    """Which of n >= 2 tokens are noise: bool [n], a span that stays first, then by turns."""
    noise, spans = span_counts(n, density, mean_span)
    gone, kept = partition(noise, spans, rng), partition(n - noise, spans, rng)
    lengths = np.stack([kept, gone], axis=1).ravel()
    return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)


def with_sentinels(tokens: np.ndarray, gone: np.ndarray, sentinels: Sequence[int]) -> np.ndarray:
    """Tokens [n] with the i-th run of `gone` ones replaced by the i-th sentinel."""
    first = gone & ~np.concatenate([[False], gone[:-1]])
    marks = np.asarray(sentinels)[np.cumsum(first) - 1]
    return np.where(first, marks, tokens)[first | ~gone]


def corrupted(
    tokens: np.ndarray,
    density: float,
    mean_span: float,
    sentinels: Sequence[int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Source and target of tokens [n]: spans gone from the one are told in the other, each after
    its sentinel. Neither has an end token.

    Raises:
        ValueError: more spans than sentinels.
    """
    if len(tokens) < 2:
        return tokens, tokens[:0]
    _, spans = span_counts(len(tokens), density, mean_span)
    if spans > len(sentinels):
        raise ValueError(f"{spans} spans need as many sentinels, and there are {len(sentinels)}.")
    gone = noise_mask(len(tokens), density, mean_span, rng)
    source = with_sentinels(tokens, gone, sentinels)
    return source, told(tokens, gone, sentinels)


def told(tokens: np.ndarray, gone: np.ndarray, sentinels: Sequence[int]) -> np.ndarray:
    """The runs of `gone` tokens, each after its sentinel."""
    first = gone & ~np.concatenate([[False], gone[:-1]])
    out: list[int] = []
    spans = -1
    for token, is_first, is_gone in zip(tokens.tolist(), first, gone, strict=True):
        if is_first:
            spans += 1
            out.append(int(sentinels[spans]))
        if is_gone:
            out.append(token)
    return np.asarray(out, dtype=tokens.dtype)
