"""Our own tokenizers in the form of a `tokenizer.json`, so that other libraries read them.

Each form gives the same tokens as the tokenizer it is made of, and decodes to the same text.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from .byte import ByteTokenizer
from .char import CharTokenizer
from .model_proto import Model, Piece
from .sentencepiece import SPACE, SentencePieceTokenizer
from .tokenizer import Tokenizer

Form = dict[str, Any]
EOS = "</s>"


def json_form(tokenizer: Tokenizer) -> Form | None:
    """The content of a tokenizer.json, or None for a kind that has no such form."""
    if isinstance(tokenizer, CharTokenizer):
        return _characters(tokenizer)
    if isinstance(tokenizer, ByteTokenizer):
        return _bytes(tokenizer)
    if isinstance(tokenizer, SentencePieceTokenizer):
        return pieces(tokenizer.parsed())
    return None


def added(number: int, content: str, special: bool = True) -> dict[str, Any]:
    """An entry of `added_tokens`: text that is always one token."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **flags, "special": special}


def template(before: Sequence[str], after: Sequence[str], ids: Mapping[str, int]) -> Form | None:
    """The part that puts tokens before and after a text; None where the vocabulary lacks one."""
    names = dict.fromkeys((*before, *after))
    if any(name not in ids for name in names):
        return None

    def token(name: str, segment: int) -> Form:
        return {"SpecialToken": {"id": name, "type_id": segment}}

    def text(name: str, segment: int) -> Form:
        return {"Sequence": {"id": name, "type_id": segment}}

    first = [*(token(n, 0) for n in before), text("A", 0), *(token(n, 0) for n in after)]
    second = [text("B", 1), *(token(n, 1) for n in after)]
    tokens = {n: {"id": n, "ids": [ids[n]], "tokens": [n]} for n in names}
    kind = "TemplateProcessing"
    return {"type": kind, "single": first, "pair": first + second, "special_tokens": tokens}


def byte_level(words: bool) -> Form:
    """The part that maps bytes to printable characters; with `words` it cuts words out first."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": words,
    }


def _characters(tokenizer: CharTokenizer) -> Form:
    """Byte pairs without a merge: every character stays by itself."""
    vocab = {character: i for i, character in enumerate(tokenizer.characters)}
    return form({"type": "BPE", "vocab": vocab, "merges": []}, decoder={"type": "Fuse"})


def _bytes(tokenizer: ByteTokenizer) -> Form:
    vocab = {character: byte for byte, character in enumerate(byte_characters())}
    ends = [added(256, EOS)]
    return form(
        {"type": "BPE", "vocab": vocab | {EOS: 256}, "merges": []},
        added_tokens=ends,
        pre_tokenizer=byte_level(words=False),
        decoder=byte_level(words=False),
    )


def pieces(model: Model, before: Sequence[Form] = ()) -> Form | None:
    """A sentencepiece model; None where the form has no words for it.

    `before` are normalizers that come before those of the model.
    """
    compiled = model.normalization == "identity" or model.charsmap
    if not compiled or model.model_type not in MODELS:
        return None
    controls = [
        (i, p) for i, p in enumerate(model.pieces) if p.kind in ("control", "unknown", "user")
    ]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    normalizers = list(before)
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode()
        normalizers.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.trims:
        normalizers.append({"type": "Strip", "strip_left": True, "strip_right": True})
        runs = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
        normalizers.append(runs)
    decoders: list[Form] = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if model.dummy_prefix:
        normalizers.append({"type": "Prepend", "prepend": SPACE})
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    normalizers.append(spaces)
    normalizer: Form = {"type": "Sequence", "normalizers": normalizers}
    fallback = any(piece.kind == "byte" for piece in model.pieces)
    return form(
        MODELS[model.model_type](model.pieces) | {"byte_fallback": fallback},
        added_tokens=[added(i, piece.text, piece.kind != "user") for i, piece in controls],
        normalizer=normalizer if len(normalizers) > 1 else spaces,
        decoder={"type": "Sequence", "decoders": decoders},
    )


def _bpe(pieces: list[Piece]) -> Form:
    """Merges in the order that sentencepiece makes them: the result of highest score first."""
    vocab = {piece.text: i for i, piece in enumerate(pieces)}
    unknown = next((piece.text for piece in pieces if piece.kind == "unknown"), None)
    texts = {piece.text for piece in pieces if piece.kind == "normal"}
    merges: list[tuple[float, int, int, str, str]] = []
    for piece in pieces:
        if piece.kind != "normal":
            continue
        for at in range(1, len(piece.text)):
            left, right = piece.text[:at], piece.text[at:]
            if left in texts and right in texts:
                merges.append((-piece.score, vocab[left], vocab[right], left, right))
    pairs = [[left, right] for *_, left, right in sorted(merges)]
    return {"type": "BPE", "unk_token": unknown, "fuse_unk": True, "vocab": vocab, "merges": pairs}


def _unigram(pieces: list[Piece]) -> Form:
    unknown = next((i for i, piece in enumerate(pieces) if piece.kind == "unknown"), None)
    vocab = [[piece.text, piece.score] for piece in pieces]
    return {"type": "Unigram", "unk_id": unknown, "vocab": vocab}


MODELS = {"bpe": _bpe, "unigram": _unigram}
"""By sentencepiece's name of how pieces are chosen."""


def form(model: Form, **parts: object) -> Form:
    """A `tokenizer.json` of a model and the other parts; those left out are null."""
    empty = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        **dict.fromkeys(empty),
        **parts,
        "model": model,
    }


def byte_characters() -> list[str]:
    """The character that byte-level BPE writes for each byte (Radford et al. 2019's `encoder.py`):
    a printable byte is itself, the others follow from U+0100 on."""
    plain = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unused = iter(range(0x100, 0x200))
    return [chr(byte) if byte in plain else chr(next(unused)) for byte in range(256)]
