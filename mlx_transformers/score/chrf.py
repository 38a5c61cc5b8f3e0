"""chrF: the F measure of character n-grams.

    chrF = (1 + β²) · P · R / (β² · P + R)        P, R: means over the orders

Popović 2015, and 2017 for word n-grams (chrF++); counts as in sacrebleu (Post 2018).
"""

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MARKS = frozenset(string.punctuation)
EPS = 1e-16


@dataclass(frozen=True)
class Chrf:
    """Options of chrF; the defaults are sacrebleu's.

    Attributes:
        char_order: the longest n-grams of characters.
        word_order: the longest n-grams of words; 2 makes it chrF++.
        beta: how often recall counts as much as precision.
        lowercase: whether case is ignored.
        whitespace: whether white space counts as characters.
        eps_smoothing: whether the F measures of all orders are averaged, instead of precision and
            recall of those that occur.
    """

    char_order: int = 6
    word_order: int = 0
    beta: float = 2.0
    lowercase: bool = False
    whitespace: bool = False
    eps_smoothing: bool = False

    def counts(self, written: str, references: Sequence[str]) -> np.ndarray:
        """Terms of a text in the sums, `[3N]`: for each order the n-grams, those of the reference
        and the matches; of the reference that it agrees with best."""
        ngrams = self._ngrams(written)
        matches = [_matches(ngrams, self._ngrams(reference)) for reference in references]
        return max(matches, key=self.value)

    def value(self, counts: np.ndarray) -> float:
        """chrF of summed counts, from 0 to 100."""
        in_text, in_reference, matches = counts.reshape(-1, 3).T
        precision = np.where(in_text > 0, matches / np.maximum(in_text, 1), EPS)
        recall = np.where(in_reference > 0, matches / np.maximum(in_reference, 1), EPS)
        if self.eps_smoothing:
            pairs = zip(precision, recall, strict=True)
            return 100 * float(np.mean([self._f(p, r) for p, r in pairs]))
        both = (in_text > 0) & (in_reference > 0)
        if not both.any():
            return 0.0
        mean_p, mean_r = precision[both].mean(), recall[both].mean()
        return 100 * self._f(mean_p, mean_r) if mean_p + mean_r > 0 else 0.0

    def _f(self, precision: float, recall: float) -> float:
        factor = self.beta**2
        below = factor * precision + recall
        return float((1 + factor) * precision * recall / below) if below > 0 else EPS

    def _ngrams(self, text: str) -> list[Counter[tuple[str, ...]]]:
        text = text.lower() if self.lowercase else text
        chars = list(text if self.whitespace else "".join(text.split()))
        words = _words(text)
        return [_of_order(chars, n) for n in range(1, self.char_order + 1)] + [
            _of_order(words, n) for n in range(1, self.word_order + 1)
        ]


def _of_order(parts: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(parts[i : i + n]) for i in range(len(parts) - n + 1))


def _matches(
    own: list[Counter[tuple[str, ...]]], other: list[Counter[tuple[str, ...]]]
) -> np.ndarray:
    rows = [
        (a.total() if b else 0, b.total(), (a & b).total()) for a, b in zip(own, other, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1)


def _words(text: str) -> list[str]:
    """Words with the punctuation at one of their ends apart, the last character first."""
    tokens: list[str] = []
    for word in text.split():
        if len(word) > 1 and word[-1] in MARKS:
            tokens += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in MARKS:
            tokens += [word[0], word[1:]]
        else:
            tokens.append(word)
    return tokens
