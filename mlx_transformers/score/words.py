"""Word error rate: the edits between a transcript and its reference, per word of the reference."""

from collections.abc import Hashable, Sequence

import numpy as np

from .interval import Score, scored


def edits(reference: Sequence[Hashable], written: Sequence[Hashable]) -> int:
    """Return the edit distance: the fewest substitutions, insertions and deletions (Levenshtein
    1966)."""
    row = np.arange(len(written) + 1)
    for i, word in enumerate(reference, 1):
        before, row = row, np.full(len(written) + 1, i)
        for j, found_word in enumerate(written, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (word != found_word))
    return int(row[-1])


def word_errors(references: Sequence[str], transcripts: Sequence[str]) -> list[Score]:
    """Return the word error rate, all edits over all words of the references, and the share of
    transcripts without an error. Case counts."""
    pairs = zip(references, transcripts, strict=True)
    wrong = np.array([edits(a.split(), b.split()) for a, b in pairs])
    n_words = np.array([len(text.split()) for text in references])

    def rate(i: np.ndarray) -> float:
        return float(wrong[i].sum() / max(1, n_words[i].sum()))

    return [
        scored("word_error_rate", len(references), rate),
        scored("exact", len(references), lambda i: float((wrong[i] == 0).mean())),
    ]
