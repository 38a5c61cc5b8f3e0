"""Retrieval: the passages of a folder of texts that are nearest to a question.

    words        BM25: Σ over the question's words, idf(word) tf (k1 + 1) / (tf + k1 (1 - b + b L))
    embeddings   cosine(embedding(passage), embedding(question))

with tf the word's count in the passage, and L the passage's length relative to the mean. Robertson
& Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", equation 3.15; Lewis et
al. 2020, "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks", with a flat index in
NumPy and passages that are written into the prompt.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import RunError
from ..core.parse import read_text

SUFFIXES = (".txt", ".md", ".rst")
WORDS = 120
"""Words of a passage, about; it ends with a paragraph where that is possible."""
LARGEST = 10 * 2**20
"""Bytes of a text that is read."""
K1, B = 1.2, 0.75
"""k1 and b of BM25."""
Embed = Callable[[Sequence[str]], np.ndarray]
"""Vectors `[N, D]` of N texts."""
Scores = Callable[[str], np.ndarray]
"""How near each passage is to a question, `[N]`; 0 or less where it has nothing of it."""


@dataclass(frozen=True)
class Passage:
    """A part of a text, and where it is from."""

    text: str
    source: str


def by_words(texts: Sequence[str]) -> Scores:
    """BM25 over the words of texts, in any case."""
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    lengths = np.zeros(len(texts))
    for number, text in enumerate(texts):
        counts = Counter(_words(text))
        lengths[number] = counts.total()
        for word, count in counts.items():
            places[word].append((number, count))
    norms = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))

    def scores(question: str) -> np.ndarray:
        total = np.zeros(len(texts))
        for word in set(_words(question)) & places.keys():
            numbers, tf = np.array(places[word]).T
            idf = np.log1p((len(texts) - len(numbers) + 0.5) / (len(numbers) + 0.5))
            total[numbers] += idf * tf * (K1 + 1) / (tf + norms[numbers])
        return total

    return scores


def by_embeddings(texts: Sequence[str], embed: Embed) -> Scores:
    """The cosines of the embeddings of texts, which are computed now."""
    vectors = _unit(embed(texts))
    return lambda question: np.asarray(vectors @ _unit(embed([question]))[0])


class Index:
    """Passages, and how near each is to a question."""

    def __init__(self, passages: Sequence[Passage], scores: Scores) -> None:
        self._passages, self._scores = list(passages), scores

    def search(self, question: str, n: int = 3) -> list[tuple[float, Passage]]:
        """Return the n nearest passages with their scores, nearest first; those with a score of 0
        or less are left out."""
        scores = self._scores(question)
        best = np.argsort(-scores, kind="stable")[:n]
        return [(float(scores[i]), self._passages[i]) for i in best if scores[i] > 0]


class Retrieval:
    """A tool that searches an index."""

    name = "search"
    description = "Search the user's texts and return the passages nearest to a question."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {"query": {"type": "string", "description": "what to look for"}},
        "required": ["query"],
    }

    def __init__(self, index: Index, n: int = 3) -> None:
        self._index, self._n = index, n

    def __call__(self, **arguments: object) -> str:
        """Return passages with their sources, nearest first.

        Raises:
            RunError: an empty question.
        """
        query = str(arguments["query"]).strip()
        if not query:
            raise RunError("The query is empty.")
        hits = self._index.search(query, self._n)
        if not hits:
            return "No passage was found. Use other words."
        return "\n\n".join(f"[{passage.source}]\n{passage.text}" for _, passage in hits)


def read_passages(folder: Path, words: int = WORDS) -> list[Passage]:
    """Return the passages of all texts below a folder, in the order of their names.

    Raises:
        RunError: there is no such folder, no text in it, or one that can't be read.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder of texts.")
    passages = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        if not path.is_file():
            continue
        if path.stat().st_size > LARGEST:
            raise RunError(f"{path} is larger than {LARGEST >> 20} MiB: split it.")
        text = read_text(path, str(path), RunError)
        source = str(path.relative_to(folder))
        passages += [Passage(part, source) for part in passages_of(text, words)]
    if not passages:
        raise RunError(f"{folder} has no text ({', '.join(SUFFIXES)}) to search in.")
    return passages


def passages_of(text: str, words: int = WORDS) -> Iterator[str]:
    """Cut a text into passages of about so many words: whole paragraphs together, and long ones in
    parts."""
    paragraphs: list[str] = []
    n_held = 0
    for paragraph in (part.strip() for part in text.split("\n\n")):
        paragraph_words = paragraph.split()
        if paragraphs and n_held + len(paragraph_words) > words:
            yield "\n\n".join(paragraphs)
            paragraphs, n_held = [], 0
        if len(paragraph_words) > words:
            yield from (
                " ".join(paragraph_words[i : i + words])
                for i in range(0, len(paragraph_words), words)
            )
        elif paragraph_words:
            paragraphs.append(paragraph)
            n_held += len(paragraph_words)
    if paragraphs:
        yield "\n\n".join(paragraphs)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))
