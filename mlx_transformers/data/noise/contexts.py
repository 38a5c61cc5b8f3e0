"""Words and their neighbours: subsampling, windows and noise words of word2vec.

Mikolov et al. 2013a (arXiv:1301.3781), section 3; Mikolov et al. 2013b (arXiv:1310.4546),
sections 2.2 and 2.3.
"""

import numpy as np


def kept_shares(counts: np.ndarray, threshold: float | None) -> np.ndarray:
    """The probability that an occurrence of each word stays in the text, `[V]`.

    `min(1, sqrt(threshold / f))` for a word of frequency f: Mikolov et al. 2013b, equation 5
    (the published word2vec.c keeps `threshold / f` more). None keeps all.
    """
    if threshold is None:
        return np.ones(len(counts))
    frequencies = np.maximum(counts, 1) / max(1, counts.sum())
    shares: np.ndarray = np.minimum(1.0, np.sqrt(threshold / frequencies))
    return shares


def noise_shares(counts: np.ndarray, power: float) -> np.ndarray:
    """The noise distribution, cumulated, `[V]`: counts to a power; Mikolov et al. 2013b, section
    2.2 (3/4). A word that doesn't occur is never drawn."""
    raised = np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)
    total: np.ndarray = np.cumsum(raised)
    total /= total[-1]
    return total


def drawn_words(shares: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Words of a cumulated distribution `[V]`, of a shape."""
    return np.searchsorted(shares, rng.random(shape), side="right").astype(np.int32)


def neighbours(n: int, window: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The positions around each of n words, and which of them lie in its window, `[n, 2 window]`.

    The window of each word is drawn from 1 to `window` (Mikolov et al. 2013a, section 3.2), so
    that nearer words count more.
    """
    reach = rng.integers(1, window + 1, (n, 1))
    offsets = np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])
    places = np.arange(n)[:, None] + offsets
    inside = (np.abs(offsets) <= reach) & (places >= 0) & (places < n)
    return np.clip(places, 0, max(0, n - 1)), inside
