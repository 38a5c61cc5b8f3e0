"""Pieces: documents as they stream by, in parts that always fit in memory."""

import codecs
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError

PIECE_CHARS = 1 << 18
"""The longest piece, in characters. A longer document comes in several, cut after a line end."""

READ_BYTES = 1 << 18


@dataclass(frozen=True)
class Piece:
    """A document, or a part of one."""

    text: str
    """What it says; empty where `tokens` are given instead."""
    first: bool = True
    """Whether a document starts here."""
    where: str = ""
    """File, line or title: for messages."""
    tokens: np.ndarray | None = None
    """Ready-made tokens [n], for sources that hold no text."""
    record: Mapping[str, Any] | None = None
    """Its named fields, for sources that hold records; `text` are then the words in them."""
    group: str | None = None
    """What decides on which side of a split it goes, where not its text: a verse's book."""

    def __len__(self) -> int:
        if self.record is not None:
            return 1
        return len(self.text) if self.tokens is None else len(self.tokens)


def cut(texts: Iterable[str], where: str) -> Iterator[Piece]:
    """The pieces of one document, which may itself arrive in parts of any length."""
    first, held = True, ""
    for text in texts:
        held += text
        while len(held) > PIECE_CHARS:
            end = held.rfind("\n", 0, PIECE_CHARS) + 1 or PIECE_CHARS
            yield Piece(held[:end], first, where)
            first, held = False, held[end:]
    if held:
        yield Piece(held, first, where)


def read_utf8(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file in parts, line ends as they are, a byte order mark left out.

    Raises:
        DataError: a byte that is not UTF-8, with its offset and the cure.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    before, at_start = 0, True
    with open(path, "rb") as file:
        while True:
            block = file.read(READ_BYTES)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                held = len(error.object) - len(block)
                byte, offset = error.object[error.start], before - held + error.start
                raise DataError(_not_utf8(path, byte, offset)) from None
            before += len(block)
            yield text.removeprefix("\ufeff") if at_start else text
            at_start = at_start and not text
            if not block:
                return


def _not_utf8(path: Path, byte: int, offset: int) -> str:
    with open(path, "rb") as file:
        mark = file.read(2)
    encoding = "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "latin1"
    return (
        f"{path} is not UTF-8 text: byte 0x{byte:02x} at offset {offset}. If it is text in another "
        f"encoding, convert it: iconv -f {encoding} -t utf-8 '{path.name}' > converted.txt"
    )
