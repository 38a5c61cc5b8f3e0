"""Reads and writes the tokenizer of a GGUF file, the `tokenizer.ggml` part of its metadata.

Format: llama.cpp, `gguf-py/gguf/constants.py`. Values are plain Python ones.
"""

import json
from collections.abc import Mapping
from typing import Any

from ...core.errors import DataError, unknown
from .byte import ByteTokenizer
from .char import CharTokenizer
from .hf import HfTokenizer
from .json_form import added, byte_level
from .json_form import pieces as pieces_form
from .model_proto import KINDS, Model, Piece, serialize
from .numbers import NumberTokenizer
from .sentencepiece import SPACE, SentencePieceTokenizer
from .tokenizer import Tokenizer

Metadata = dict[str, Any]
KEY = "tokenizer.ggml."
TEMPLATE = "tokenizer.chat_template"
JINJA = "chat_template.jinja"

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _cut(pattern: str) -> dict[str, Any]:
    """Return a pre-tokenizer that cuts words by a pattern and writes them as byte characters."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return _sequence(split | {"invert": False}, byte_level(words=False))


def _sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


PRE = {
    "gpt-2": byte_level(words=True),
    "smollm": _sequence({"type": "Digits", "individual_digits": True}, byte_level(words=True)),
    "llama-bpe": _cut(CONTRACTIONS + r"\p{N}{1,3}" + REST),
    "qwen2": _cut(CONTRACTIONS + r"\p{N}" + REST),
}
"""Pre-tokenizers of byte-level BPE, by llama.cpp's name."""


def read_metadata(metadata: Mapping[str, Any]) -> Tokenizer | None:
    """Return the tokenizer that the metadata of a file describes, or None if it describes none.

    Raises:
        DataError: its kind or its pre-tokenizer is not known.
    """
    kind = metadata.get(KEY + "model", "no_vocab")
    if kind == "no_vocab":
        return None
    if kind not in READERS:
        raise DataError(unknown("GGUF tokenizer", str(kind), READERS))
    tokenizer = READERS[kind](metadata)
    if template := metadata.get(TEMPLATE):
        tokenizer.companions = {JINJA: str(template).encode()}
    return tokenizer


def write_metadata(tokenizer: Tokenizer, vocab_size: int) -> Metadata:
    """Return the metadata that describes a tokenizer, padded to the vocabulary of its model.

    Raises:
        DataError: llama.cpp has no tokenizer that gives the same tokens.
    """
    if isinstance(tokenizer, NumberTokenizer):
        return {KEY + "model": "no_vocab"}
    if isinstance(tokenizer, HfTokenizer):
        metadata = _write_bpe(tokenizer)
    elif isinstance(tokenizer, SentencePieceTokenizer | CharTokenizer | ByteTokenizer):
        metadata = _write_pieces(_model(tokenizer))
    else:
        raise DataError(f"A tokenizer of the kind '{tokenizer.kind}' has no form in a GGUF file.")
    _fill(metadata, vocab_size)
    for name, number in (("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id)):
        if number is not None:
            metadata[f"{KEY}{name}_token_id"] = number
    if JINJA in tokenizer.companions:
        metadata[TEMPLATE] = tokenizer.companions[JINJA].decode()
    return metadata | {KEY + "add_bos_token": False, KEY + "add_eos_token": False}


def _fill(metadata: Metadata, vocab_size: int) -> None:
    """Append unused tokens: llama.cpp takes the size of the vocabulary from the list."""
    lacking = range(len(metadata[KEY + "tokens"]), vocab_size)
    metadata[KEY + "tokens"] += [f"[PAD{i}]" for i in lacking]
    metadata[KEY + "token_type"] += [KINDS.index("unused") + 1 for _ in lacking]
    if KEY + "scores" in metadata:
        metadata[KEY + "scores"] += [0.0 for _ in lacking]


def _read_bpe(metadata: Mapping[str, Any]) -> Tokenizer:
    tokens: list[str] = metadata[KEY + "tokens"]
    pre = metadata.get(KEY + "pre", "gpt-2")
    if pre not in PRE:
        raise DataError(unknown("GGUF cutting of words", str(pre), PRE))
    kinds = [KINDS[number - 1] for number in metadata.get(KEY + "token_type", [])]
    special = [added(i, tokens[i]) for i, kind in enumerate(kinds) if kind == "control"]
    user_tokens = [added(i, tokens[i], False) for i, kind in enumerate(kinds) if kind == "user"]
    form = {
        "version": "1.0",
        "added_tokens": sorted([*special, *user_tokens], key=lambda token: token["id"]),
        "pre_tokenizer": PRE[pre],
        "decoder": byte_level(words=True),
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in metadata[KEY + "merges"]],
            "ignore_merges": pre == "llama-bpe",
        },
    }
    return HfTokenizer(json.dumps(form, ensure_ascii=False).encode(), *_ends(metadata))


def _ends(metadata: Mapping[str, Any]) -> list[str | None]:
    """Return the tokens that begin and end a document."""
    numbers = [metadata.get(f"{KEY}{name}_token_id") for name in ("bos", "eos")]
    return [None if number is None else metadata[KEY + "tokens"][number] for number in numbers]


def _write_bpe(tokenizer: HfTokenizer) -> Metadata:
    form = json.loads(tokenizer.serialize())
    model = form["model"]
    pre = next((name for name, parts in PRE.items() if parts == form.get("pre_tokenizer")), None)
    if model.get("type") != "BPE" or pre is None or form.get("normalizer") is not None:
        raise DataError(
            "This tokenizer.json has no form in a GGUF file: that knows byte pairs with a cutting "
            f"of words by one of {', '.join(PRE)}."
        )
    tokens = [f"[PAD{i}]" for i in range(tokenizer.vocab_size)]
    kinds = [KINDS.index("unused") + 1] * tokenizer.vocab_size
    for text, number in model["vocab"].items():
        tokens[number], kinds[number] = text, KINDS.index("normal") + 1
    for entry in form.get("added_tokens", []):
        kind = "control" if entry["special"] else "user"
        tokens[entry["id"]], kinds[entry["id"]] = entry["content"], KINDS.index(kind) + 1
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return {
        KEY + "model": "gpt2",
        KEY + "pre": pre,
        KEY + "tokens": tokens,
        KEY + "token_type": kinds,
        KEY + "merges": merges,
    }


def _read_pieces(metadata: Mapping[str, Any]) -> Tokenizer:
    tokens = metadata[KEY + "tokens"]
    scores = metadata.get(KEY + "scores", [0.0] * len(tokens))
    kinds = metadata.get(KEY + "token_type", [1] * len(tokens))
    pieces = [
        Piece(text, score, KINDS[kind - 1])
        for text, score, kind in zip(tokens, scores, kinds, strict=True)
    ]
    prefix = bool(metadata.get(KEY + "add_space_prefix", True))
    model = Model(pieces, "bpe", dummy_prefix=prefix, trims=False)
    if any(piece.kind == "unknown" for piece in pieces):
        return SentencePieceTokenizer(serialize(model))
    # Characters, or bytes: sentencepiece itself takes no model without an unknown piece.
    return HfTokenizer(json.dumps(pieces_form(model)).encode(), *_ends(metadata))


def _write_pieces(model: Model) -> Metadata:
    if model.model_type != "bpe" or model.normalization != "identity" or model.trims:
        raise DataError(
            "This sentencepiece model has no form in a GGUF file: that knows byte pairs on text as "
            "it is (data.tokenizer.model_type = 'bpe')."
        )
    return {
        KEY + "model": "llama",
        KEY + "pre": "default",
        KEY + "tokens": [piece.text for piece in model.pieces],
        KEY + "scores": [piece.score for piece in model.pieces],
        KEY + "token_type": [KINDS.index(piece.kind) + 1 for piece in model.pieces],
        KEY + "add_space_prefix": model.dummy_prefix,
    }


def _model(tokenizer: SentencePieceTokenizer | CharTokenizer | ByteTokenizer) -> Model:
    """Return a sentencepiece model; of characters or bytes, one whose pieces never merge."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        return tokenizer.parsed()
    if isinstance(tokenizer, CharTokenizer):
        pieces = [Piece(c.replace(" ", SPACE), 0.0, "normal") for c in tokenizer.characters]
    else:
        pieces = [Piece(f"<0x{byte:02X}>", 0.0, "byte") for byte in range(256)]
        pieces[ord(" ")] = Piece(SPACE, 0.0, "normal")  # a space is replaced before it is a byte
        pieces.append(Piece("</s>", 0.0, "control"))
    return Model(pieces, "bpe", dummy_prefix=False, trims=False)


READERS = {"gpt2": _read_bpe, "llama": _read_pieces}
"""Readers by llama.cpp's name of a kind of tokenizer."""
