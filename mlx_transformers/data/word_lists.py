"""Published lists that word vectors are measured with: analogies and similarities."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError
from .contents import contents

FIRST_COLUMNS = {
    "simlex999": ("word1", "word2", "simlex999"),
    "wordsim": ("word 1", "word 2", "human (mean)"),
}
"""Names of the columns of SimLex-999 and of WordSim-353, in lower case."""


@dataclass(frozen=True)
class Analogy:
    """A question "a is to b as c is to d", and the section of the list that it stands in."""

    section: str
    words: tuple[str, str, str, str]


@dataclass(frozen=True)
class Similarity:
    """Two words, and how similar people found them."""

    words: tuple[str, str]
    score: float


def read_analogies(path: Path) -> list[Analogy]:
    """Read a list in the format of questions-words.txt: a line `: SECTION`, then lines of four
    words (Mikolov et al. 2013a, section 4.1).

    Raises:
        DataError: the file can't be read, or a line is something else.
    """
    analogies, section = [], ""
    for number, line in _lines(path):
        if line.startswith(":"):
            section = line[1:].strip()
            continue
        words = line.split()
        if len(words) != 4:
            raise DataError(
                f"{path}, line {number}: an analogy is four words with spaces between, and this "
                f"line has {len(words)}. Sections begin with a colon."
            )
        analogies.append(Analogy(section, (words[0], words[1], words[2], words[3])))
    if not analogies:
        raise DataError(f"{path} has no analogy: give lines of four words.")
    return analogies


def read_similarities(path: Path) -> list[Similarity]:
    """Read pairs of words with the scores that people gave: SimLex-999 (its column SimLex999),
    WordSim-353 (CSV or tab-separated), or any three columns. Lines with `#` are comments.

    Raises:
        DataError: the file can't be read, or a line is something else.
    """
    lines = [(number, line) for number, line in _lines(path) if not line.startswith("#")]
    if not lines:
        raise DataError(f"{path} has no pair: give lines of two words and a number.")
    delimiter = "\t" if "\t" in lines[0][1] else ","
    rows = [(number, _cells(line, delimiter)) for number, line in lines]
    places = _places([cell.strip().lower() for cell in rows[0][1]])
    if places is not None:
        rows = rows[1:]
    similarities = [_similarity(path, number, cells, places or (0, 1, 2)) for number, cells in rows]
    if not similarities:
        raise DataError(f"{path} has a header and no pair.")
    return similarities


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return line.split("\t")
    try:
        return next(csv.reader([line]))
    except csv.Error:  # a cell beyond its limit
        return [line]


def _places(header: list[str]) -> tuple[int, int, int] | None:
    """The columns of the two words and of the score, if the line names them."""
    for names in FIRST_COLUMNS.values():
        if set(names) <= set(header):
            first, second, score = (header.index(name) for name in names)
            return first, second, score
    return None


def _similarity(
    path: Path, number: int, cells: list[str], places: tuple[int, int, int]
) -> Similarity:
    try:
        first, second, score = (cells[place].strip() for place in places)
        value = float(score)
    except (IndexError, ValueError):
        raise DataError(
            f"{path}, line {number}: a pair is two words and a number, with tabs or commas "
            f"between; this line is {'|'.join(cells)[:80]!r}."
        ) from None
    if not first or not second or not math.isfinite(value):
        raise DataError(f"{path}, line {number}: a pair is two words and a finite number.")
    return Similarity((first, second), value)


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that aren't empty, with their numbers."""
    try:
        text = contents(path, str(path)).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text.") from None
    lines = text.split("\n")
    return [(i, line.strip("\r ")) for i, line in enumerate(lines, 1) if line.strip()]
