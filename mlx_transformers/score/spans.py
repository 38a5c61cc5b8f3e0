"""Metrics of spans of a text: named entities, and answers to questions."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .classes import shares
from .interval import Score, mean

TAG = re.compile("O|[BI]-.+")
"""A BIO tag: it begins an entity (B-), continues one (I-), or is outside of all (O)."""
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)

Name = tuple[int, int, str]
"""The first and the last word of a named entity, and its kind."""


def names_in(tags: Sequence[str]) -> set[Name]:
    """The entities that tags mark; an I- tag outside of any begins one, as in CoNLL's script."""
    spans: list[Name] = []
    for place, tag in enumerate(tags):
        kind = tag[2:]
        if tag.startswith("I-") and spans and spans[-1][1:] == (place - 1, kind):
            spans[-1] = (spans[-1][0], place, kind)
        elif tag != "O":
            spans.append((place, place, kind))
    return set(spans)


def names(expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> list[Score]:
    """Precision, recall and F1 of whole entities over all sentences (Tjong Kim Sang & De Meulder
    2003, section 2.2), from the tags of each sentence."""
    pairs = [(names_in(a), names_in(b)) for a, b in zip(expected, predicted, strict=True)]
    right, n_expected, n_predicted = np.array([(len(a & b), len(a), len(b)) for a, b in pairs]).T
    return [
        shares("name_precision", right, n_predicted),
        shares("name_recall", right, n_expected),
        shares("name_f1", 2 * right, n_expected + n_predicted),
    ]


def answers(expected: Sequence[str], predicted: Sequence[str]) -> list[Score]:
    """Exact match, and the F1 of the words that both have (Rajpurkar et al. 2016, section 6.1),
    without case, punctuation and articles; no answer is right where there is none (Rajpurkar et al.
    2018)."""
    pairs = [(plain(a), plain(b)) for a, b in zip(expected, predicted, strict=True)]
    exact = np.array([float(a == b) for a, b in pairs])
    return [mean("exact", exact), mean("f1", np.array([overlap(a, b) for a, b in pairs]))]


def squad(answers: Sequence[str], predicted: str) -> tuple[float, float]:
    """Exact match and F1 of an answer against the accepted ones, the best of each, from 0 to 1."""
    answer_text = plain(predicted)
    pairs = [
        (float(answer_text == plain(answer)), overlap(plain(answer), answer_text))
        for answer in answers
    ]
    return max(exact for exact, _ in pairs), max(f for _, f in pairs)


def plain(text: str) -> list[str]:
    """The words of an answer, without case, punctuation and articles."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def overlap(expected: Sequence[str], predicted: Sequence[str]) -> float:
    """F1 of words: the harmonic mean of their precision and recall."""
    if not expected or not predicted:
        return float(expected == predicted)
    both = sum((Counter(expected) & Counter(predicted)).values())
    return 2 * both / (len(expected) + len(predicted))


def best_span(starts: np.ndarray, ends: np.ndarray) -> tuple[int, int]:
    """The first and last token of the span with the greatest sum of scores `[T]` (Devlin et al.
    2018, section 4.2)."""
    sums = starts[:, None] + ends[None, :]
    sums[np.tril_indices(len(starts), -1)] = -np.inf
    first, last = np.unravel_index(sums.argmax(), sums.shape)
    return int(first), int(last)
