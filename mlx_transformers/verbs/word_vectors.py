"""Word vectors in use: nearest words, analogies and similarities of words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..assembly.saved import load
from ..core.errors import RunError
from ..data.tokenizers.tokenizer import Tokenizer
from ..data.word_lists import read_analogies, read_similarities
from ..models.word_vectors import WordVectorsModel
from ..runs.folder import RUNS, find_checkpoint
from ..score.correlation import spearman
from ..score.interval import Score, mean, scored

BATCH = 512
"""Analogies that are solved together."""
TERM = re.compile(r"\s+([+-])\s+")
"""A sign with spaces around it, between the words of a sum."""


@dataclass(frozen=True)
class WordSpace:
    """The vectors of all words of a run, scaled to length 1.

    Attributes:
        checkpoint: where they were read.
        tokenizer: turns a word into its row.
        vectors: `[V, D]`, float32; the row of unknown words is zero.
    """

    checkpoint: Path
    tokenizer: Tokenizer
    vectors: np.ndarray

    def row(self, word: str) -> int | None:
        """The row of a word, whose case doesn't count where the vocabulary has lower case alone;
        None where the vocabulary lacks it, or it is no single word."""
        tokens = self.tokenizer.encode(word)
        if len(tokens) != 1 or tokens[0] == self.tokenizer.unknown_id:
            return None
        # a tokenizer of letters alone passes over all else
        is_known = self.tokenizer.decode(tokens).strip() in (word, word.lower())
        return int(tokens[0]) if is_known else None

    def nearest(self, text: str, n: int = 10) -> list[tuple[str, float]]:
        """The n words with the largest cosine to a word, or to a sum such as "king - man + woman",
        and the cosines. The words of the text itself are left out.

        Raises:
            RunError: the vocabulary lacks one of the words.
        """
        parts = TERM.split(text.strip())
        rows = [self._known(word) for word in parts[::2]]
        signs = [1.0] + [1.0 if sign == "+" else -1.0 for sign in parts[1::2]]
        query = np.asarray(signs, np.float32) @ self.vectors[rows]
        cosines = self.vectors @ (query / max(float(np.linalg.norm(query)), 1e-12))
        cosines[rows] = -np.inf
        if self.tokenizer.unknown_id is not None:
            cosines[self.tokenizer.unknown_id] = -np.inf
        order = np.argsort(-cosines, kind="stable")[:n]
        neighbours = [(int(i), float(cosines[i])) for i in order if np.isfinite(cosines[i])]
        return [(self.tokenizer.decode([i]).strip(), cosine) for i, cosine in neighbours]

    def _known(self, word: str) -> int:
        row = self.row(word)
        if row is None:
            raise RunError(
                f"The vocabulary of {self.checkpoint} lacks the word {word!r}: it occurs too "
                "seldom in the training text (data.tokenizer.min_count), or it is not one word. "
                "A sum is written with spaces around its signs: 'king - man + woman'."
            )
        return row


def open_words(run: str | Path | None = None, root: Path = RUNS) -> WordSpace:
    """Open the word vectors of a run.

    Raises:
        MlxtError: there is no such run, or its model has no vectors of words.
    """
    _, checkpoint = find_checkpoint(run, root)
    model, tokenizer = load(checkpoint)
    if not isinstance(model, WordVectorsModel):
        raise RunError(
            f"{checkpoint} has no word vectors: its model reads words in their context. mlxt train "
            "embeddings/word2vec_tiny makes a run that has them; mlxt embed compares whole texts."
        )
    rows = np.array(model(mx.arange(tokenizer.vocab_size)).astype(mx.float32))
    if tokenizer.unknown_id is not None:
        rows[tokenizer.unknown_id] = 0
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return WordSpace(checkpoint, tokenizer, rows / np.maximum(lengths, 1e-12))


@dataclass(frozen=True)
class Listed:
    """How word vectors do on a published list.

    Attributes:
        scores: the metric over the whole list, then by section where it has several.
        counts: the questions or pairs that each score is of.
        asked: questions or pairs of the whole list; the others have a word that is unknown.
    """

    scores: list[Score]
    counts: list[int]
    asked: int


def analogies(space: WordSpace, path: Path) -> Listed:
    """Measure the accuracy of "a is to b as c is to d": the share of questions for which d is the
    word with the largest cosine to `b - a + c`, the three themselves left out.

    3CosAdd (Mikolov et al. 2013a, section 4; named by Levy & Goldberg 2014). Questions with a word
    that the vocabulary lacks are left out and counted, and all others are searched for over the
    whole vocabulary.

    Raises:
        MlxtError: the file can't be read, or the vocabulary knows none of its questions.
    """
    questions = read_analogies(path)
    found = [[space.row(word) for word in one.words] for one in questions]
    known = [i for i, rows in enumerate(found) if None not in rows]
    _check_known(space, path, len(known), len(questions))
    rows = np.array([found[i] for i in known], dtype=np.int64)
    hits = (_answers(space.vectors, rows[:, :3]) == rows[:, 3]).astype(np.float64)
    sections = np.array([questions[i].section for i in known])
    scores, counts = [mean("accuracy", hits)], [len(hits)]
    names = list(dict.fromkeys(sections.tolist()))
    for name in names if len(names) > 1 else []:
        own = hits[sections == name]
        scores.append(mean(name or "no section", own))
        counts.append(len(own))
    return Listed(scores, counts, len(questions))


def _answers(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The word nearest to `b - a + c` for each of `rows [n, 3]`, `[n]`."""
    out = []
    for at in range(0, len(rows), BATCH):
        a, b, c = rows[at : at + BATCH].T
        cosines = (vectors[b] - vectors[a] + vectors[c]) @ vectors.T
        each = np.arange(len(a))
        for own in (a, b, c):
            cosines[each, own] = -np.inf
        out.append(cosines.argmax(axis=1))
    return np.concatenate(out)


def similarities(space: WordSpace, path: Path) -> Listed:
    """Measure Spearman's rank correlation between cosines and the scores of people.

    Raises:
        MlxtError: the file can't be read, or the vocabulary knows fewer than two of its pairs.
    """
    pairs = read_similarities(path)
    found = [(space.row(one.words[0]), space.row(one.words[1]), one.score) for one in pairs]
    known = [(a, b, score) for a, b, score in found if a is not None and b is not None]
    _check_known(space, path, len(known), len(pairs), least=2)
    first, second, human = (np.array(column) for column in zip(*known, strict=True))
    cosines = (space.vectors[first] * space.vectors[second]).sum(axis=1)
    score = scored("spearman", len(known), lambda i: spearman(cosines[i], human[i]))
    return Listed([score], [len(known)], len(pairs))


def _check_known(space: WordSpace, path: Path, known: int, asked: int, least: int = 1) -> None:
    if known < least:
        raise RunError(
            f"{path} has {asked:,} lines, and {space.checkpoint} knows the words of {known}: train "
            "on more text, or with a smaller data.tokenizer.min_count."
        )


def listed(run: str | None, kind: str, path: Path, root: Path = RUNS) -> tuple[Path, Listed]:
    """Measure a run on a list of a kind of `LISTS`: its checkpoint, and the result.

    Raises:
        MlxtError: as `open_words`, or the list can't be used.
    """
    space = open_words(run, root)
    return space.checkpoint, LISTS[kind](space, path)


LISTS = {"analogies": analogies, "similarities": similarities}
"""Kinds of lists, and how each is measured."""


def nearest_words(
    run: str | None, texts: Sequence[str], n: int, root: Path = RUNS
) -> list[list[tuple[str, float]]]:
    """The words nearest to each of several texts: see `WordSpace.nearest`."""
    space = open_words(run, root)
    return [space.nearest(text, n) for text in texts]
