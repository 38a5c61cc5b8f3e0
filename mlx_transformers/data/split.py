"""Which documents train and which validate."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from .config import Data
from .pieces import Piece
from .source import Source

Split = Literal["train", "valid"]
SPLITS: tuple[Split, Split] = ("train", "valid")


def method(data: Data, source: Source) -> Literal["documents", "tail"]:
    """How a source is split: as the table says, else as suits the source."""
    return data.split or source.usual_split


def routed(data: Data, source: Source, valid: Source | None) -> Iterator[tuple[Split, Piece]]:
    """Every piece with its split, in the order of the source.

    A separate source for validation comes after the one for training.
    """
    if valid is not None:
        yield from (("train", piece) for piece in source.pieces())
        yield from (("valid", piece) for piece in valid.pieces())
    elif not data.valid_fraction:
        yield from (("train", piece) for piece in source.pieces())
    elif method(data, source) == "tail":
        yield from _tail(source, data.valid_fraction)
    else:
        yield from _documents(source, data.valid_fraction)


def _documents(source: Source, fraction: float) -> Iterator[tuple[Split, Piece]]:
    """By a hash of how the document begins: uniform in [0, 1), compared with the fraction."""
    split: Split = "train"
    for piece in source.pieces():
        if piece.first:
            content = piece.text.encode() if piece.tokens is None else piece.tokens.tobytes()
            digest = hashlib.blake2b(content, digest_size=8).digest()
            split = "valid" if int.from_bytes(digest, "big") < fraction * 2**64 else "train"
        yield split, piece


def _tail(source: Source, fraction: float) -> Iterator[tuple[Split, Piece]]:
    """The first int(n (1 - fraction)) characters (or tokens) train; a document may be cut."""
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
    if piece.tokens is not None:
        head, tail = piece.tokens[:at], piece.tokens[at:]
        return replace(piece, tokens=head), _rest(piece, at, tokens=tail)
    return replace(piece, text=piece.text[:at]), _rest(piece, at, text=piece.text[at:])


def _rest(piece: Piece, at: int, **content: object) -> Piece:
    return replace(piece, first=piece.first and at == 0, **content)  # type: ignore[arg-type]
