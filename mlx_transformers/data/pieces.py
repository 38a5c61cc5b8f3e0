"""Pieces: documents read as a stream, in parts of bounded size."""

import codecs
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, MlxtError
from ..core.paths import expanded
from .compression import is_compressed, opened
from .shards import Split

Record = Mapping[str, Any]
"""Named fields; each value is what its file or corpus holds, checked where it is read."""

PIECE_CHARS = 1 << 18
"""The longest piece, in characters. A longer document comes in several, each cut after a line
end."""

READ_BYTES = 1 << 18
"""Bytes read from a file at a time."""

NUL_SHARE = 4
"""A file is no text if one character of so many in its first block is zero: English in UTF-16
without a byte order mark has one of two."""

BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""First bytes of texts in other encodings; the longer ones first."""


class RowError(DataError):
    """A row that can't be used; the others may be."""


@dataclass(frozen=True)
class Piece:
    """A document or a part of one."""

    text: str
    """Its text; empty if `tokens` are given instead."""
    first: bool = True
    """Whether a document starts here."""
    where: str = ""
    """File, line or title, for error messages."""
    tokens: np.ndarray | None = None
    """Token ids [n], for sources that are tokenized already."""
    record: Record | None = None
    """Its named fields, for sources of records; `text` is then the text in those fields."""
    group: str | None = None
    """Documents of one group land on the same side of a split (verses of a chapter, say). None:
    each is assigned by its own text."""
    split: Split | None = None
    """The split that its corpus assigns it to; None: a hash of its text or group does."""
    folder: Path | None = None
    """The folder of the file that it comes from, to which paths in its fields are relative."""
    fields: Sequence[Sequence[int]] | None = None
    """The fields of the record as integers, once its batch kind has encoded them."""
    problem: str | None = None
    """Why a row can't be read, a sentence; such a piece holds nothing else."""

    def __len__(self) -> int:
        if self.record is not None:
            return 1
        return len(self.text) if self.tokens is None else len(self.tokens)

    def path(self, value: str) -> Path:
        """Return the path of a file that a field names.

        Raises:
            RowError: it begins with `~`, and there is no such home folder.
        """
        try:
            return (self.folder or Path()) / expanded(value)
        except MlxtError as error:
            raise RowError(f"{self.where or 'A record'}: {error}") from None


def cut(texts: Iterable[str], where: str) -> Iterator[Piece]:
    """Yield the pieces of one document, which may itself arrive in parts of any length."""
    first, pending = True, ""
    for text in texts:
        pending += text
        while len(pending) > PIECE_CHARS:
            end = pending.rfind("\n", 0, PIECE_CHARS) + 1 or PIECE_CHARS
            yield Piece(pending[:end], first, where)
            first, pending = False, pending[end:]
    if pending:
        yield Piece(pending, first, where)


def read_utf8(path: Path) -> Iterator[str]:
    """Yield the text of a UTF-8 file in parts, line ends unchanged, without a byte order mark.

    Raises:
        DataError: a byte that is not UTF-8, with its offset and the cure.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    before, at_start = 0, True
    with opened(path) as file:
        while True:
            block = file.read(READ_BYTES)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                n_pending = len(error.object) - len(block)
                byte, offset = error.object[error.start], before - n_pending + error.start
                raise DataError(_not_utf8(path, byte, offset)) from None
            if at_start and NUL_SHARE * text.count("\0") > len(text):
                raise DataError(f"{path} is no plain text: much of it is zero bytes. {_cure(path)}")
            before += len(block)
            yield text.removeprefix("\ufeff") if at_start else text
            at_start = at_start and not text
            if not block:
                return


def _not_utf8(path: Path, byte: int, offset: int) -> str:
    return f"{path} is not UTF-8 text: byte 0x{byte:02x} at offset {offset}. {_cure(path)}"


def _encoding(first: bytes) -> str:
    """The likeliest encoding of a text that begins with these bytes and isn't UTF-8."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if first.startswith(mark):
            return encoding
    zeros = [first[start::2].count(0) for start in (0, 1)]
    if NUL_SHARE * sum(zeros) <= len(first):
        return "latin1"
    return "utf-16be" if zeros[0] > zeros[1] else "utf-16le"


def _cure(path: Path) -> str:
    """The command that converts a file, which keeps its suffix: the suffix tells the format."""
    file = shlex.quote(str(path))
    if is_compressed(path):
        return f"If it is text in another encoding, decompress {file} and convert it with iconv."
    with opened(path) as content:
        encoding = _encoding(content.read(1000))
    command = f"iconv -f {encoding} -t utf-8 {file} > converted{path.suffix}"
    return f"If it is text in another encoding, convert it: {command}"
