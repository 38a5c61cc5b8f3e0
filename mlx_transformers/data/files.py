"""Local files as a source: text, JSON lines, nanoGPT token files."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, FormatError, nearest
from ..core.parse import LINE, parse_json
from .pieces import Piece, cut, read_utf8
from .source import Source

TEXT_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("txt", "text", "md", "rst", "tex", "csv", "tsv", "html", "xml", "jsonl"),
        *("py", "pyi", "js", "ts", "c", "h", "cc", "cpp", "hpp", "m", "mm", "rs", "go", "java"),
        *("swift", "kt", "rb", "sh", "css", "sql", "toml", "yaml", "yml"),
    )
)
"""What a folder contributes; a file that is named, or that a glob matches, may have any suffix."""

TOKENS_PER_PIECE = 1 << 18


class Files(Source):
    """Files of the user's, in the order given; what a folder or a glob gives is sorted.

    Without a `text_key` they are records: each line of a `.jsonl` file is one, and each line of a
    `.tsv` file, whose first line names the fields.

    Raises:
        DataError: nothing there, an unreadable line, text that is not UTF-8.
    """

    def __init__(self, path: str | list[str], text_key: str | None = "text") -> None:
        self.text_key = text_key
        patterns = [path] if isinstance(path, str) else path
        self.files = [file for pattern in patterns for file in expand(pattern)]
        self.name = self.files[0].stem if len(self.files) == 1 else self.files[0].parent.name
        kinds = {_reader(file) for file in self.files}
        if "bin" in kinds and len(kinds) > 1:
            raise DataError(f"data.path mixes .bin token files with text: {', '.join(patterns)}.")
        self.ready_tokens = kinds == {"bin"}
        one_text = len(self.files) == 1 and "jsonl" not in kinds
        self.usual_split = "tail" if one_text or self.ready_tokens else "documents"

    def __str__(self) -> str:
        first, *rest = self.files
        return f"{first} and {len(rest)} more files" if rest else str(first)

    def pieces(self) -> Iterator[Piece]:
        for file in self.files:
            match _reader(file):
                case "jsonl" if self.text_key is None:
                    yield from (record(row, where) for row, where in json_rows(file))
                case _ if self.text_key is None:
                    yield from _table(file)
                case "jsonl":
                    yield from _json_lines(file, self.text_key)
                case "bin":
                    yield from _tokens(file)
                case _:
                    yield from cut(read_utf8(file), str(file))

    def identity(self) -> object:
        stats = [(str(file), file.stat()) for file in self.files]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]

    def digest(self) -> str:
        return digest_files(self.files)

    def n_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


def digest_files(files: list[Path]) -> str:
    """sha256 over the sizes and contents of files, in order; names and dates don't count."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.stat().st_size}\n".encode())
        with open(path, "rb") as file:
            while block := file.read(1 << 18):
                total.update(block)
    return total.hexdigest()


def expand(pattern: str) -> list[Path]:
    """The files that a path, folder or glob stands for, absolute and sorted.

    Raises:
        DataError: there are none; with the nearest name in that folder.
    """
    path = Path(pattern).expanduser().absolute()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.suffix.lower() in TEXT_SUFFIXES and p.is_file()]
        found = [p for p in found if not _hidden(p, path)]
        if not found:
            raise DataError(f"The folder {path} holds no text file (.txt, .md, .py, .jsonl …).")
        return sorted(found)
    if any(sign in pattern for sign in "*?["):
        root = next(p for p in path.parents if not any(sign in str(p) for sign in "*?["))
        found = [p for p in root.glob(str(path.relative_to(root))) if p.is_file()]
        if not found:
            raise DataError(f"No file matches data.path '{pattern}' (looked under {root}).")
        return sorted(found)
    raise DataError(_not_found(pattern, path))


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith((".", "__pycache__")) for part in path.relative_to(root).parts)


def _not_found(pattern: str, path: Path) -> str:
    folder = path.parent
    cure = "Name another with --set data.path=FILE; paths count from the folder you are in."
    if not folder.is_dir():
        return f"data.path '{pattern}': there is no folder {folder}. {cure}"
    match = nearest(path.name, (p.name for p in folder.iterdir()))
    hint = f" Did you mean '{match}'?" if match else ""
    return f"data.path '{pattern}': there is no such file in {folder}.{hint} {cure}"


def _reader(path: Path) -> str:
    suffix = path.suffix.lower()
    return suffix[1:] if suffix in (".jsonl", ".bin") else "text"


def record(row: Any, where: str) -> Piece:
    """A record as a piece: its words, and its fields.

    Raises:
        DataError: it is no object of named fields.
    """
    if not isinstance(row, dict):
        raise DataError(f"{where}: a record is an object of named fields, and this is none.")
    words = "\n".join(value for value in row.values() if isinstance(value, str))
    return Piece(words, where=where, record=row)


def _table(path: Path) -> Iterator[Piece]:
    """Records from a file whose first line names the fields, with tabs between them."""
    if path.suffix.lower() != ".tsv":
        raise DataError(
            f"{path}: records come from .jsonl files (one object a line) or .tsv files (the first "
            "line names the fields). For running text take another data.batch."
        )
    names: list[str] | None = None
    for number, line in enumerate(_lines(path), 1):
        cells = line.rstrip("\r").split("\t")
        if names is None:
            names = cells
        elif len(cells) != len(names):
            raise DataError(
                f"{path}:{number}: {len(cells)} fields, and the first line names {len(names)}."
            )
        else:
            yield record(dict(zip(names, cells, strict=True)), f"{path}:{number}")


def _lines(path: Path) -> Iterator[str]:
    held = ""
    for text in read_utf8(path):
        *lines, held = (held + text).split("\n")
        yield from lines
    if held:
        yield held


def json_rows(path: Path) -> Iterator[tuple[Any, str]]:
    """The values of a file with one on each line, and where each is.

    Raises:
        DataError: a line that is not JSON.
    """
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            yield parse_json(line, where, LINE), where
        except FormatError as error:
            raise DataError(f"{error} A .jsonl file holds one JSON object a line.") from None


def _json_lines(path: Path, key: str) -> Iterator[Piece]:
    """One document a line: the value of `key`."""
    for row, where in json_rows(path):
        yield from _document(row, key, where)


def _document(row: Any, key: str, where: str) -> Iterator[Piece]:
    if not isinstance(row, dict) or not isinstance(row.get(key), str):
        have = f"its keys are {', '.join(row)}" if isinstance(row, dict) else "it is no object"
        cure = "Name the right one with data.text_key."
        raise DataError(f"{where}: no text under the key '{key}'; {have}. {cure}")
    try:
        row[key].encode()
    except UnicodeEncodeError as error:
        bad = f"U+{ord(row[key][error.start]):04X}"
        raise DataError(f"{where}: a lone surrogate {bad}, which is no character.") from None
    yield from cut([row[key]], where)


def _tokens(path: Path) -> Iterator[Piece]:
    """A nanoGPT file: uint16, little-endian, no header."""
    if path.stat().st_size % 2:
        size = path.stat().st_size
        raise DataError(f"{path} is no file of uint16 tokens: it has {size} bytes, an odd number.")
    tokens = np.memmap(path, dtype="<u2", mode="r") if path.stat().st_size else np.zeros(0, "<u2")
    for start in range(0, len(tokens), TOKENS_PER_PIECE):
        part = np.array(tokens[start : start + TOKENS_PER_PIECE])
        yield Piece("", first=start == 0, where=str(path), tokens=part)
