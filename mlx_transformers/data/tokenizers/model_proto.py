"""Sentencepiece model files, read and written without a protobuf library.

Covers the fields that other formats need: pieces with scores and kinds, the model type and the
normaliser (sentencepiece_model.proto: ModelProto, fields 1 to 3).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

PieceKind = Literal["normal", "unknown", "control", "user", "unused", "byte"]
KINDS: tuple[PieceKind, ...] = ("normal", "unknown", "control", "user", "unused", "byte")
"""By the number of the format, which begins at 1."""
MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Piece:
    """An entry of the vocabulary; its score says which is taken first."""

    text: str
    score: float
    kind: PieceKind


@dataclass(frozen=True)
class Model:
    """The content of a model file.

    Attributes:
        pieces: the vocabulary, by number.
        model_type: how pieces are chosen: unigram, bpe, word or char.
        normalization: the name of the rule: identity, nmt_nfkc ...
        dummy_prefix: whether a space is put in front of a text.
        trims: whether runs of spaces become one, and those around the text none.
        charsmap: the compiled rule of normalization; empty for the identity.
        begin, end: the pieces that begin and end a document.
    """

    pieces: list[Piece]
    model_type: str = "unigram"
    normalization: str = "identity"
    dummy_prefix: bool = True
    trims: bool = True
    charsmap: bytes = b""
    begin: str = "<s>"
    end: str = "</s>"


def parse(content: bytes) -> Model:
    """The model of a file.

    Raises:
        ValueError: it isn't one.
    """
    pieces: list[Piece] = []
    facts: dict[str, Any] = {}
    try:
        for number, value in _fields(content):
            if number == 1 and isinstance(value, bytes):
                pieces.append(_piece(value))
            elif number == 2 and isinstance(value, bytes):
                chosen = dict(_fields(value)).get(3, 1)
                facts["model_type"] = MODEL_TYPES.get(chosen if isinstance(chosen, int) else 1, "")
            elif number == 3 and isinstance(value, bytes):
                facts |= _normalizer(value)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("not a sentencepiece model") from error
    return Model(pieces, **facts)


def serialize(model: Model) -> bytes:
    """The file of a model."""
    kinds = {name: number for number, name in MODEL_TYPES.items()}
    pieces = [_message(1, _piece_bytes(piece)) for piece in model.pieces]
    trainer = [_varint_field(3, kinds[model.model_type])]
    if any(piece.kind == "byte" for piece in model.pieces):
        trainer.append(_varint_field(35, 1))
    for field, kind, number in _control_ids(model):
        trainer += [_varint_field(field, number), _message(field + 5, kind.encode())]
    flags = [_varint_field(3, int(model.dummy_prefix)), _varint_field(4, int(model.trims))]
    name = model.normalization if model.charsmap else "identity"
    rule = _message(1, name.encode()) + (_message(2, model.charsmap) if model.charsmap else b"")
    normalizer = rule + b"".join(flags) + _varint_field(5, 1)
    return b"".join([*pieces, _message(2, b"".join(trainer)), _message(3, normalizer)])


def without_prefix(content: bytes) -> bytes:
    """The file of a model that puts no space in front of a text, all else as it is.

    A message that stands in a file twice is merged, the later value of a field counts (Protocol
    Buffers, encoding, "Last One Wins").
    """
    return content + _message(3, _varint_field(3, 0))


def _control_ids(model: Model) -> Iterator[tuple[int, str, int]]:
    """Fields of the trainer that name the unknown, begin and end tokens."""
    unknown = next((p.text for p in model.pieces if p.kind == "unknown"), "<unk>")
    numbers = {piece.text: i for i, piece in enumerate(model.pieces)}
    for field, text in ((40, unknown), (41, model.begin), (42, model.end), (43, "<pad>")):
        yield field, text, numbers.get(text, -1)


def _piece(content: bytes) -> Piece:
    fields = dict(_fields(content))
    text, score, kind = fields.get(1, b""), fields.get(2, 0.0), fields.get(3, 1)
    if not (isinstance(text, bytes) and isinstance(score, float) and isinstance(kind, int)):
        raise ValueError("not a sentencepiece model")
    return Piece(text.decode("utf-8"), score, KINDS[kind - 1])


def _piece_bytes(piece: Piece) -> bytes:
    score = bytes([2 << 3 | FIXED32]) + struct.pack("<f", piece.score)
    kind = KINDS.index(piece.kind) + 1
    return _message(1, piece.text.encode()) + score + _varint_field(3, kind)


def _normalizer(content: bytes) -> dict[str, object]:
    """Facts of the model by name, those that the message has."""
    fields = dict(_fields(content))
    facts: dict[str, Any] = {}
    if isinstance(name := fields.get(1), bytes):
        facts["normalization"] = name.decode()
    if isinstance(charsmap := fields.get(2), bytes):
        facts["charsmap"] = charsmap
    flags = {"dummy_prefix": 3, "trims": 4}
    return facts | {name: bool(fields[field]) for name, field in flags.items() if field in fields}


def _fields(content: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a message: number and value."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(content, at)
            yield number, value
        elif wire == FIXED32:
            yield number, float(struct.unpack_from("<f", content, at)[0])
            at += 4
        elif wire == FIXED64:
            yield number, float(struct.unpack_from("<d", content, at)[0])
            at += 8
        elif wire == BYTES:
            size, at = _varint(content, at)
            if at + size > len(content):
                raise ValueError("not a sentencepiece model")
            yield number, content[at : at + size]
            at += size
        else:
            raise ValueError("not a sentencepiece model")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _varint_bytes(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative number is written as its two's complement
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _varint_field(number: int, value: int) -> bytes:
    return _varint_bytes(number << 3 | VARINT) + _varint_bytes(value)


def _message(number: int, content: bytes) -> bytes:
    return _varint_bytes(number << 3 | BYTES) + _varint_bytes(len(content)) + content
