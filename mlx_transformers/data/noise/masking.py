"""Masked language modelling: chooses the predicted tokens and their replacements."""

import numpy as np

from .words import word_ids


def chosen_tokens(n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose a `share` of n positions uniformly: bool [n].

    Devlin et al. 2018, section 3.1: "15% of all WordPiece tokens in each sequence at random".
    """
    out = np.zeros(n, bool)
    out[rng.permutation(n)[: budget(n, share)]] = True
    return out


def chosen_words(
    tokens: np.ndarray,
    tables: tuple[np.ndarray, np.ndarray],
    share: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose whole words, in random order, while they fit in the `share` of tokens: bool [n].

    Whole word masking of BERT's code (May 2019): the subwords of a word are masked together.
    """
    ids, limit = word_ids(tokens, tables), budget(len(tokens), share)
    lengths = np.bincount(ids, minlength=1)
    out, left = np.zeros(len(tokens), bool), limit
    for word in rng.permutation(len(lengths)):
        if lengths[word] <= left:
            out |= ids == word
            left -= lengths[word]
        if not left:
            break
    return out


def chosen_spans(
    tokens: np.ndarray,
    tables: tuple[np.ndarray, np.ndarray],
    share: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose spans of whole words until the `share` of tokens is reached: bool [n].

    Joshi et al. 2020 (SpanBERT), section 3.1: a length in words from Geo(0.2) clipped at 10 (here:
    drawn from the distribution renormalised to 1..10), starting at the beginning of a word,
    repeatedly; the last span is cut to the share.
    """
    ids, limit = word_ids(tokens, tables), budget(len(tokens), share)
    n_words = int(ids[-1]) + 1 if len(ids) else 0
    sizes = np.arange(1, 11)
    odds = 0.2 * 0.8 ** (sizes - 1)
    out = np.zeros(len(tokens), bool)
    while (left := limit - int(out.sum())) > 0:
        length = int(rng.choice(sizes, p=odds / odds.sum()))
        first = int(rng.integers(0, n_words))
        span = np.flatnonzero((ids >= first) & (ids < first + length) & ~out)
        out[span[:left]] = True
    return out


def budget(n: int, share: float) -> int:
    """Return how many of n tokens are predicted: the share rounded, at least one."""
    return min(n, max(1, round(n * share)))


def replaced(
    tokens: np.ndarray,
    chosen: np.ndarray,
    mask: int,
    vocab_size: int,
    rng: np.random.Generator,
    *,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    together: bool = False,
) -> np.ndarray:
    """Return the input of the model: at the `chosen` positions, a share becomes the mask token,
    another share a random token below `vocab_size`, and the rest stays unchanged.

    Devlin et al. 2018, section 3.1 and appendix A.1: 80%, 10%, 10%. `together` decides once for
    each run of chosen positions, as SpanBERT does.
    """
    draw = rng.random(len(tokens))
    if together:
        starts = chosen & ~np.concatenate([[False], chosen[:-1]])
        draw = draw[np.maximum.accumulate(np.where(starts, np.arange(len(tokens)), 0))]
    out = np.where(chosen & (draw < mask_share), mask, tokens)
    random = chosen & (draw >= mask_share) & (draw < mask_share + random_share)
    return np.where(random, rng.integers(0, vocab_size, len(tokens)), out)
