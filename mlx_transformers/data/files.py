"""Local files as a source: text, rows of many formats, token files."""

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from ..core.errors import DataError
from .compression import is_compressed
from .file_names import find_files, suffix_of
from .formats import SourceRow, rows
from .pieces import Piece, cut, read_utf8
from .source import Source
from .token_files import Layout, layout, read_tokens

ROWS = frozenset({".jsonl", ".ndjson", ".json", ".parquet"})
"""Files of rows, each a document or a record; those of tables (.tsv, .csv) are text where text is
read."""
RECORDS = {
    **dict.fromkeys(("messages", "conversations", "instruction"), "chat"),
    "chosen": "preferences",
    "completion": "completions",
}
"""Keys of rows that are no running text, and the kind of batch that reads them."""


class Files(Source):
    """The user's files, in the order given; those of a folder or a glob are sorted.

    Args:
        path: files, folders or globs.
        text_key: the field of the text in a row; None reads rows as records.
        vocab_size: the size of the vocabulary, which token files are read by; None if unknown.

    Raises:
        DataError: there are no such files, or text and tokens are mixed.
    """

    def __init__(
        self,
        path: str | list[str],
        text_key: str | None = "text",
        vocab_size: Callable[[], int] | None = None,
    ) -> None:
        self.found = find_files(path)
        found = self.found
        self._setup(found.train or found.valid or found.test, text_key, vocab_size)

    def _setup(
        self, files: list[Path], text_key: str | None, vocab_size: Callable[[], int] | None
    ) -> None:
        self.files, self.text_key, self.vocab_size = files, text_key, vocab_size
        alone = len(files) == 1 and not self.found.valid and not self.found.test
        self.name = files[0].stem if alone else files[0].parent.name
        kinds = {_kind(file) for file in files}
        if "tokens" in kinds and len(kinds) > 1:
            tokens = next(file for file in files if _kind(file) == "tokens")
            text = next(file for file in files if _kind(file) != "tokens")
            raise DataError(f"data.path mixes .bin token files with text: {tokens}, {text}.")
        self.ready_tokens = kinds == {"tokens"}
        one_text = len(files) == 1 and "rows" not in kinds
        self.usual_split = "tail" if one_text or self.ready_tokens else "documents"

    def __str__(self) -> str:
        first, *rest = self.files
        return f"{first} and {len(rest)} more files" if rest else str(first)

    def restricted(self, files: list[Path]) -> "Files":
        """Return the same source with other files."""
        out = Files.__new__(Files)
        out.found = self.found
        out._setup(files, self.text_key, self.vocab_size)
        return out

    def pieces(self) -> Iterator[Piece]:
        for file in self.files:
            kind = _kind(file)
            if kind == "tokens":
                yield from read_tokens(file, self._layouts[file])
            elif self.text_key is None:
                yield from (record(row, file.parent) for row in rows(file, suffix_of(file)))
            elif kind == "rows":
                for row in rows(file, suffix_of(file)):
                    yield from document(row, self.text_key)
            else:
                yield from cut(read_utf8(file), str(file))

    @cached_property
    def _layouts(self) -> dict[Path, Layout]:
        size = self.vocab_size() if self.vocab_size is not None else None
        return {file: layout(file, size) for file in self.files}

    def identity(self) -> object:
        stats = [(str(file), file.stat()) for file in self.files]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]

    def digest(self) -> str:
        digest = digest_files(self.files)
        if not self.ready_tokens or all(layout.usual for layout in self._layouts.values()):
            return digest
        layouts = [f"{layout.dtype}{layout.offset}" for layout in self._layouts.values()]
        return hashlib.sha256("\n".join([digest, *layouts]).encode()).hexdigest()

    def n_bytes(self) -> int | None:
        if any(suffix_of(file) == ".parquet" or is_compressed(file) for file in self.files):
            return None
        return sum(file.stat().st_size for file in self.files)


def digest_files(files: list[Path]) -> str:
    """Return the sha256 of the sizes and contents of files in order; names and dates don't
    count."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.stat().st_size}\n".encode())
        with open(path, "rb") as file:
            while block := file.read(1 << 18):
                total.update(block)
    return total.hexdigest()


def record(row: SourceRow, folder: Path | None = None) -> Piece:
    """Return a row of a file in `folder` as a piece with its fields."""
    if row.problem is not None:
        return Piece("", where=row.where, problem=row.problem)
    if not isinstance(row.value, dict):
        problem = f"{row.where}: a record is an object of named fields, and this is none."
        return Piece("", where=row.where, problem=problem)
    text = "\n".join(value for value in row.value.values() if isinstance(value, str))
    return Piece(text, where=row.where, record=row.value, folder=folder)


def document(row: SourceRow, key: str) -> Iterator[Piece]:
    """Yield the text of a row, the value of `key`, in pieces."""
    problem = row.problem
    text = row.value.get(key) if isinstance(row.value, dict) else None
    if problem is None and not isinstance(text, str):
        problem = f"{row.where}: {_no_text(row.value, key)}"
    if problem is not None:
        yield Piece("", where=row.where, problem=problem)
    elif isinstance(text, str):
        yield from cut([text], row.where)


def _no_text(value: object, key: str) -> str:
    if not isinstance(value, dict):
        return f"no text under the key '{key}'; it is no object."
    if key in value:
        what = "null" if value[key] is None else f"{value[key]!r:.60}"
        return f"no text under the key '{key}', which is {what}."
    have = ", ".join(map(str, value)) or "none"
    kind = next((RECORDS[name] for name in value if name in RECORDS), None)
    records = "" if kind is None else f" Or read such rows with data.batch.kind = '{kind}'."
    return (
        f"no text under the key '{key}'; its keys are {have:.200}. Name the right one with "
        f"data.text_key.{records}"
    )


def _kind(path: Path) -> str:
    suffix = suffix_of(path)
    if suffix == ".bin":
        return "tokens"
    return "rows" if suffix in ROWS else "text"
