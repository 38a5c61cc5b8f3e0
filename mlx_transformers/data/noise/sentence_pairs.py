"""Sentence pairs, consecutive or not."""

from typing import Literal

import numpy as np

Task = Literal["next", "order"]


def border(tokens: np.ndarray, ends: np.ndarray, rng: np.random.Generator) -> int:
    """Draw where tokens [n >= 2] are cut in two: after a random sentence, or anywhere if no
    sentence ends inside. `ends` is the table of tokens that end a sentence."""
    marks = ends[tokens]
    after = np.flatnonzero(marks[:-1] & ~marks[1:]) + 1
    if len(after):
        return int(after[rng.integers(0, len(after))])
    return int(rng.integers(1, len(tokens)))


def longest_document(boundaries: np.ndarray, start: int, length: int) -> slice:
    """Return the longest part of a window that belongs to one document, as a slice of the window.
    `boundaries` are the positions where documents start, ascending."""
    first, last = np.searchsorted(boundaries, [start + 1, start + length])
    cuts = np.concatenate([[0], boundaries[first:last] - start, [length]])
    widest = int(np.argmax(np.diff(cuts)))
    return slice(int(cuts[widest]), int(cuts[widest + 1]))


def paired(
    first: np.ndarray,
    second: np.ndarray,
    other: np.ndarray,
    task: Task,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return both parts and label 0; or, with probability 1/2, label 1 and

    - "next": `other`, from elsewhere, as the second (Devlin et al. 2018, section 3.1, task 2);
    - "order": both parts swapped (Lan et al. 2019, ALBERT, section 3.1).
    """
    if rng.random() < 0.5:
        return first, second, 0
    return (first, other, 1) if task == "next" else (second, first, 1)
