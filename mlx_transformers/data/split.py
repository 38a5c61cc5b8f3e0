"""Which documents train and which validate."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from .pieces import Piece
from .source import Source

if TYPE_CHECKING:
    from .config import Data

Split = Literal["train", "valid"]
SPLITS: tuple[Split, Split] = ("train", "valid")


def method(data: "Data", source: Source) -> Literal["documents", "tail"]:
    """How a source is split: as the table says, else as suits the source."""
    return data.split or source.usual_split


def routed(data: "Data", source: Source, valid: Source | None) -> Iterator[tuple[Split, Piece]]:
    """Every piece, as the batch kind reads it, with its split, in the order of the source.

    A separate source for validation comes after the one for training.
    """
    seen = _Read(source, data.batch.read)
    if valid is not None:
        yield from (("train", piece) for piece in seen.pieces())
        yield from (("valid", piece) for piece in _Read(valid, data.batch.read).pieces())
    elif not data.valid_fraction:
        yield from (("train", piece) for piece in seen.pieces())
    elif method(data, source) == "tail":
        yield from _tail(seen, data.valid_fraction)
    else:
        yield from _documents(seen, data.valid_fraction)


@dataclass(frozen=True)
class _Read:
    """A source through the eyes of a batch kind."""

    source: Source
    read: Callable[[Piece], Piece]

    def pieces(self) -> Iterator[Piece]:
        return map(self.read, self.source.pieces())


def _documents(source: _Read, fraction: float) -> Iterator[tuple[Split, Piece]]:
    """By a hash of how the document begins, or of the group that it belongs to: uniform in
    [0, 1), compared with the fraction."""
    split: Split = "train"
    for piece in source.pieces():
        if piece.first:
            text = piece.text if piece.group is None else piece.group
            content = text.encode() if piece.tokens is None else piece.tokens.tobytes()
            digest = hashlib.blake2b(content, digest_size=8).digest()
            split = "valid" if int.from_bytes(digest, "big") < fraction * 2**64 else "train"
        yield split, piece


def _tail(source: _Read, fraction: float) -> Iterator[tuple[Split, Piece]]:
    """The first int(n (1 - fraction)) characters (or tokens, or records) train; a document may be
    cut, a record not."""
    total = sum(len(piece) for piece in source.pieces())
    left = int(total * (1 - fraction))
    fresh = True
    for piece in source.pieces():
        head, tail = _halves(piece, left)
        left -= len(head)
        if len(head):
            yield "train", head
        if len(tail):
            yield "valid", replace(tail, first=True) if fresh else tail
            fresh = False


def _halves(piece: Piece, at: int) -> tuple[Piece, Piece]:
    at = min(at, len(piece))
    if piece.record is not None:
        nothing = replace(piece, text="", record=None)
        return (piece, nothing) if at else (nothing, piece)
    if piece.tokens is not None:
        head, tail = piece.tokens[:at], piece.tokens[at:]
        return replace(piece, tokens=head), _rest(piece, at, tokens=tail)
    return replace(piece, text=piece.text[:at]), _rest(piece, at, text=piece.text[at:])


def _rest(piece: Piece, at: int, **content: object) -> Piece:
    return replace(piece, first=piece.first and at == 0, **content)  # type: ignore[arg-type]
