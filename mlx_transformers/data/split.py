"""Assigns documents to the training and the validation split."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from .checked import Checked
from .pieces import Piece
from .shards import Split

Method = Literal["documents", "tail"]
"""How validation is held out: by a hash of each document, or the end of the text."""


def routed(
    source: Checked, valid: Checked | None, fraction: float, method: Method
) -> Iterator[tuple[Split, Piece]]:
    """Yield every piece with its split, in the order of the source.

    Args:
        source: the text.
        valid: a separate source for validation, read after the one for training; with it, `source`
            is used for training alone.
        fraction: part of `source` that is held out.
        method: how it is held out.
    """
    if valid is not None:
        yield from (("train", piece) for piece in source.pieces())
        yield from (("valid", piece) for piece in valid.pieces())
    elif not fraction:
        yield from (("train", piece) for piece in source.pieces())
    elif method == "tail":
        yield from _tail(source, fraction)
    else:
        yield from _documents(source, fraction)


def _documents(source: Checked, fraction: float) -> Iterator[tuple[Split, Piece]]:
    """Split as the corpus says, or by a hash of each document's first piece (or of its group),
    uniform in [0, 1)."""
    split: Split = "train"
    for piece in source.pieces():
        if piece.split is not None:
            split = piece.split
        elif piece.first:
            text = piece.text if piece.group is None else piece.group
            content = text.encode() if piece.tokens is None else piece.tokens.tobytes()
            digest = hashlib.blake2b(content, digest_size=8).digest()
            split = "valid" if int.from_bytes(digest, "big") < fraction * 2**64 else "train"
        yield split, piece


def _tail(source: Checked, fraction: float) -> Iterator[tuple[Split, Piece]]:
    """Train on the first int(n (1 - fraction)) characters (or tokens, or records). The border may
    cut a document but not a record."""
    total = sum(len(piece) for piece in source.pieces())
    n_train = int(total * (1 - fraction))
    fresh = True
    for piece in source.pieces():
        head, tail = _halves(piece, n_train)
        n_train -= len(head)
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
    first = piece.first and at == 0
    if piece.tokens is not None:
        head, tail = piece.tokens[:at], piece.tokens[at:]
        return replace(piece, tokens=head), replace(piece, first=first, tokens=tail)
    return replace(piece, text=piece.text[:at]), replace(piece, first=first, text=piece.text[at:])
