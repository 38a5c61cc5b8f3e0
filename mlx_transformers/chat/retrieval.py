"""Retrieval: the passages of a folder of texts that are nearest to a question by their embedding.

    score = cosine(embedding(passage), embedding(question))

Lewis et al. 2020, "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks", with a flat
index in NumPy and passages that are written into the prompt.
"""

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
Embed = Callable[[Sequence[str]], np.ndarray]
"""Vectors `[N, D]` of N texts."""


@dataclass(frozen=True)
class Passage:
    """A part of a text, and where it is from."""

    text: str
    source: str


class Index:
    """Passages with their embeddings, compared one by one.

    Attributes:
        passages: in the order of the rows of the embeddings.
    """

    def __init__(self, passages: Sequence[Passage], embed: Embed) -> None:
        self.passages = list(passages)
        self._embed = embed
        self._vectors = _unit(embed([passage.text for passage in passages]))

    def search(self, question: str, n: int = 3) -> list[tuple[float, Passage]]:
        """Return the n nearest passages with their cosines, nearest first."""
        scores = self._vectors @ _unit(self._embed([question]))[0]
        best = np.argsort(-scores, kind="stable")[:n]
        return [(float(scores[i]), self.passages[i]) for i in best]


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


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))
