"""Word error rate: edits that turn what was heard into what was said."""

from collections.abc import Hashable, Sequence

import numpy as np

from .interval import Score, scored


def edits(reference: Sequence[Hashable], found: Sequence[Hashable]) -> int:
    """Return the fewest words to replace, insert or leave out; Levenshtein 1966."""
    row = np.arange(len(found) + 1)
    for i, word in enumerate(reference, 1):
        before, row = row, np.full(len(found) + 1, i)
        for j, other in enumerate(found, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (word != other))
    return int(row[-1])


def word_errors(said: Sequence[str], heard: Sequence[str]) -> list[Score]:
    """Return the word error rate, all edits over all words said, and the share of texts without
    an error. Case counts."""
    wrong = np.array([edits(a.split(), b.split()) for a, b in zip(said, heard, strict=True)])
    words = np.array([len(text.split()) for text in said])

    def rate(i: np.ndarray) -> float:
        return float(wrong[i].sum() / max(1, words[i].sum()))

    return [
        scored("word_error_rate", len(said), rate),
        scored("exact", len(said), lambda i: float((wrong[i] == 0).mean())),
    ]
