"""ROUGE: the overlap of n-grams, or of the longest common subsequence, with a reference.

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"; words, best of several
references and the summary-level form are those of Google's rouge-score package.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..core.errors import RunError
from .porter import porter

KINDS = re.compile(r"rouge(\d|L|Lsum)")
SEPARATOR = re.compile("[^a-z0-9]+")


class Rouge(NamedTuple):
    """Precision, recall and their harmonic mean, from 0 to 1."""

    precision: float
    recall: float
    f: float


def rouge(kind: str, reference: str, written: str, *, stem: bool = False) -> Rouge:
    """Compare a text with a reference.

    Args:
        kind: `rouge1` to `rouge9`, `rougeL`, or `rougeLsum`, whose sentences are lines.
        reference: the text to agree with.
        written: the text that is measured.
        stem: whether words longer than three letters are compared by their Porter stem.

    Raises:
        RunError: an unknown kind.
    """
    match = KINDS.fullmatch(kind)
    if match is None or match[1] == "0":
        raise RunError(f"'{kind}' is no kind of ROUGE: rouge1 to rouge9, rougeL or rougeLsum.")
    if match[1] == "Lsum":
        lines = [[words(line, stem) for line in text.split("\n")] for text in (reference, written)]
        return _summary(*([line for line in text if line] for text in lines))
    a, b = words(reference, stem), words(written, stem)
    if match[1] == "L":
        return _of(_table(a, b)[len(a)][len(b)] if a and b else 0, len(b), len(a))
    n = int(match[1])
    in_reference, in_text = _ngrams(a, n), _ngrams(b, n)
    return _of((in_reference & in_text).total(), in_text.total(), in_reference.total())


def best_rouge(kind: str, references: Sequence[str], written: str, *, stem: bool = False) -> Rouge:
    """Compare a text with the reference that it agrees with best."""
    return max(
        (rouge(kind, reference, written, stem=stem) for reference in references), key=lambda r: r.f
    )


def words(text: str, stem: bool) -> list[str]:
    """The words of a text: runs of ASCII letters and digits, in lower case."""
    tokens = SEPARATOR.sub(" ", text.lower()).split()
    return [porter(word) if len(word) > 3 else word for word in tokens] if stem else tokens


def _of(matches: int, written: int, in_reference: int) -> Rouge:
    """The score of so many matches; 0 where there is nothing to match."""
    if not matches:
        return Rouge(0.0, 0.0, 0.0)
    precision, recall = matches / written, matches / in_reference
    return Rouge(precision, recall, 2 * precision * recall / (precision + recall))


def _ngrams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _table(a: list[str], b: list[str]) -> list[list[int]]:
    """The lengths of the longest common subsequences of all beginnings."""
    rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            rows[i + 1][j + 1] = rows[i][j] + 1 if x == y else max(rows[i][j + 1], rows[i + 1][j])
    return rows


def _common(a: list[str], b: list[str]) -> set[int]:
    """The places in `a` of its longest common subsequence with `b`."""
    rows, i, j, places = _table(a, b), len(a), len(b), set()
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            places.add(i)
        elif rows[i][j - 1] > rows[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places


def _summary(reference: list[list[str]], written: list[list[str]]) -> Rouge:
    """ROUGE-L of summaries: each sentence's union of its common subsequences (section 3.2), where
    no word counts more often than it occurs."""
    in_reference = Counter(word for line in reference for word in line)
    in_text = Counter(word for line in written for word in line)
    matches, unmatched, open_ = 0, Counter(in_text), Counter(in_reference)
    for line in reference:
        for place in sorted(set[int]().union(*(_common(line, other) for other in written))):
            word = line[place]
            if unmatched[word] > 0 and open_[word] > 0:
                matches += 1
                unmatched[word] -= 1
                open_[word] -= 1
    return _of(matches, in_text.total(), in_reference.total())
