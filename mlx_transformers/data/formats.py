"""Readers of rows: JSON lines, JSON documents, tables with tabs or commas, and Parquet."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError, FormatError
from ..core.parse import LINE, check_values, parse_json
from .pieces import read_utf8

BLOCK = 1 << 20
LONGEST_VALUE = 1 << 26
"""Characters of one value of a JSON document; a document may be longer than memory."""

LIST_LIMIT = 1 << 30
"""Characters of a field of a .csv file."""


@dataclass(frozen=True)
class SourceRow:
    """A row of a file: its value, or the reason why it can't be read.

    Attributes:
        where: file and line, for messages.
        value: what it holds, of JSON any value.
        problem: the reason, a sentence; None for a row that can be read.
    """

    where: str
    value: object = None
    problem: str | None = None


def rows(path: Path, suffix: str) -> Iterator[SourceRow]:
    """Yield the rows of a file, of the format that its suffix tells.

    Raises:
        DataError: the file can't be read.
    """
    match suffix:
        case ".jsonl" | ".ndjson":
            return _json_lines(path)
        case ".json":
            return _json_document(path)
        case ".tsv":
            return _tsv(path)
        case ".csv":
            return _csv(path)
        case ".parquet":
            return _parquet(path)
    raise DataError(
        f"{path}: records come from .jsonl, .json or .parquet files, or from .tsv and .csv files, "
        "whose first line names the fields. For running text take another data.batch."
    )


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends; only a line feed ends one."""
    incomplete = ""
    for text in read_utf8(path):
        *complete, incomplete = (incomplete + text).split("\n")
        yield from complete
    if incomplete:
        yield incomplete


def _json_lines(path: Path) -> Iterator[SourceRow]:
    for number, line in enumerate(lines(path), 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            yield _checked(where, parse_json(line, where, LINE), line)
        except FormatError as error:
            yield SourceRow(where, problem=f"{error} A line of a .jsonl file is one JSON object.")


def _json_document(path: Path) -> Iterator[SourceRow]:
    """The items of a JSON array, or of an object's only array, or values that follow each other."""
    items = iter(_Document(path))
    first = next(items, None)
    if first is None:
        return
    second = next(items, None)
    if second is None and isinstance(first.value, dict):
        arrays = [(k, v) for k, v in first.value.items() if _is_rows(v)]
        if len(arrays) == 1:
            key, values = arrays[0]
            yield from (SourceRow(f"{path}, {key}[{n}]", value) for n, value in enumerate(values))
            return
    yield first
    if second is not None:
        yield second
    yield from items


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


class _Document:
    """The values of a JSON document one after the other, read in blocks."""

    SKIPPED = re.compile(r"[\s,]*")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks = read_utf8(path)
        self.text, self.at, self.line, self.ended = "", 0, 1, False
        self.decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[SourceRow]:
        self._skip(re.compile(r"\s*"))
        is_array = self.text[self.at : self.at + 1] == "["
        if is_array:
            self.at += 1
        while there_is := self._skip(self.SKIPPED):
            if self.text[self.at] == "]":
                break
            yield self._value()
        if is_array and not there_is:
            raise DataError(
                f"{self.path}:{self.line}: the array that begins the file has no end, so the file "
                "was cut short. Write it again."
            )

    def _more(self) -> bool:
        """Read another block; forget what was read of the last."""
        self.text, self.at = self.text[self.at :], 0
        block = next(self.blocks, None)
        self.ended = block is None
        self.text += block or ""
        return not self.ended

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Move to the next value; return whether there is one."""
        while True:
            match = pattern.match(self.text, self.at)
            end = match.end() if match else self.at
            self.line += self.text.count("\n", self.at, end)
            self.at = end
            if self.at < len(self.text):
                return True
            if not self._more():
                return False

    def _value(self) -> SourceRow:
        where = f"{self.path}:{self.line}"
        n_chars = BLOCK
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended:
                    break
                self._more()
            except RecursionError:
                raise DataError(f"{where}: nested more than {LINE.depth} deep.") from None
            except json.JSONDecodeError as error:
                if self.ended or len(self.text) - self.at > LONGEST_VALUE:
                    line = self.line + self.text.count("\n", self.at, error.pos)
                    raise DataError(f"{self.path}:{line}: not JSON ({error.msg}).") from None
                # Reading twice as much each time keeps the work in proportion to the length.
                while len(self.text) - self.at < n_chars and self._more():
                    pass
                n_chars *= 2
            except ValueError:
                message = f"{where}: an integer has too many digits to be read."
                raise DataError(message) from None
        text = self.text[self.at : end]
        self.line, self.at = self.line + text.count("\n"), end
        try:
            check_values(value, where, LINE)
        except FormatError as error:
            return SourceRow(where, problem=str(error))
        return _checked(where, value, text)


def _checked(where: str, value: object, text: str) -> SourceRow:
    """A row of JSON, whose strings have to be text: `\\ud800` is a valid escape of no character."""
    if re.search(r"\\u[dD][89a-fA-F]", text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            bad = f"U+{ord(error.object[error.start]):04X}"
            problem = f"{where}: a lone surrogate {bad}, which is no character."
            return SourceRow(where, problem=problem)
    return SourceRow(where, value)


def _tsv(path: Path) -> Iterator[SourceRow]:
    cells = (line.rstrip("\r").split("\t") for line in lines(path))
    return _table(path, enumerate(cells, 1))


def _csv(path: Path) -> Iterator[SourceRow]:
    csv.field_size_limit(LIST_LIMIT)
    reader = csv.reader(_with_ends(path), strict=True)

    def numbered() -> Iterator[tuple[int, list[str]]]:
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not a .csv file ({error}).") from None

    return _table(path, numbered())


def _with_ends(path: Path) -> Iterator[str]:
    return (f"{line}\n" for line in lines(path))


def _table(path: Path, numbered: Iterable[tuple[int, list[str]]]) -> Iterator[SourceRow]:
    names: list[str] | None = None
    for number, cells in numbered:
        where = f"{path}:{number}"
        if names is None:
            names = cells
        elif len(cells) != len(names):
            problem = f"{where}: {len(cells)} fields, and the first line names {len(names)}."
            yield SourceRow(where, problem=problem)
        else:
            yield SourceRow(where, dict(zip(names, cells, strict=True)))


def _parquet(path: Path) -> Iterator[SourceRow]:
    with open(path, "rb") as file:
        if file.read(4) != b"PAR1":
            raise DataError(f"{path} is no Parquet file: it doesn't begin with PAR1.")
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"{path}: Parquet files need the `pyarrow` package: pip install pyarrow. Or save it as "
            ".jsonl."
        ) from None
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                number += 1
                yield SourceRow(f"{path}, row {number}", value)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        reason = str(error).split("\n", 1)[0]
        raise DataError(f"{path} can't be read after row {number}: {reason}") from None
