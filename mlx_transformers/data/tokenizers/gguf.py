"""Reads and writes the tokenizer of a GGUF file, the `tokenizer.ggml` part of its metadata.

Format: llama.cpp, `gguf-py/gguf/constants.py` and `src/llama-vocab.cpp`. Values are plain Python
ones.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from ...core.errors import DataError, unknown
from .byte import ByteTokenizer
from .char import CharTokenizer
from .controls import Controlled
from .gguf_trie import read_trie, write_trie
from .gguf_words import CUTS, cut_of, name_of
from .hf import HfTokenizer
from .json_form import added, byte_level
from .json_form import pieces as pieces_form
from .model_proto import KINDS, Model, Piece, PieceKind, parse, serialize
from .numbers import NumberTokenizer
from .sentencepiece import SPACE, SentencePieceTokenizer
from .tokenizer import Tokenizer

Metadata = dict[str, Any]
KEY = "tokenizer.ggml."
TEMPLATE = "tokenizer.chat_template"
JINJA = "chat_template.jinja"
MODEL_FILE = "tokenizer.model"
"""A sentencepiece model that came beside a `tokenizer.json`."""
COMPOSED = {"type": "NFC"}
"""The one normalizer of byte pairs that is passed over, as llama.cpp's own converter does."""
USUAL_BEGIN, USUAL_END = 1, 2
"""llama.cpp's begin and end tokens of sentencepiece where a file names none."""
PROBES = ("a", " a", "a  b\n\n c 12", "é, 日本 🙂")
"""Texts that two tokenizers have to encode alike."""
FURTHER_ENDS = ("eot", "eom")
"""Tokens beside the end token that end a turn."""


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
    inner = tokenizer.inner if isinstance(tokenizer, Controlled) else tokenizer
    if isinstance(inner, NumberTokenizer):
        return {KEY + "model": "no_vocab"}
    if isinstance(inner, HfTokenizer):
        model = _beside(inner)
        metadata = _write_bpe(inner) if model is None else _write_pieces(model)
    elif isinstance(inner, SentencePieceTokenizer):
        metadata = _write_pieces(inner.parsed())
    elif isinstance(inner, CharTokenizer | ByteTokenizer):
        metadata = {KEY + name: value for name, value in write_trie(inner).items()}
    else:
        raise DataError(f"A tokenizer of the kind '{inner.kind}' has no form in a GGUF file.")
    roles = {n: role for role, n in tokenizer.controls.items() if n >= inner.vocab_size}
    _append(metadata, [f"<|{role}|>" for _, role in sorted(roles.items())], "control")
    lacking = range(len(metadata[KEY + "tokens"]), vocab_size)
    _append(metadata, [f"[PAD{number}]" for number in lacking], "unused")
    further = (token for token in tokenizer.ends if token != tokenizer.eos_id)
    ends = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "eot": next(further, None)}
    metadata |= {f"{KEY}{name}_token_id": n for name, n in ends.items() if n is not None}
    if JINJA in tokenizer.companions:
        metadata[TEMPLATE] = tokenizer.companions[JINJA].decode()
    begins = bool(tokenizer.prefix) and tokenizer.prefix == (tokenizer.bos_id,)
    return metadata | {KEY + "add_bos_token": begins, KEY + "add_eos_token": False}


def unlike(tokenizer: Tokenizer) -> str:
    """Return where llama.cpp tokenizes otherwise than this tokenizer, as a sentence; empty where it
    doesn't."""
    told = []
    if isinstance(tokenizer, HfTokenizer):
        form = json.loads(tokenizer.serialize())
        if form.get("normalizer") == COMPOSED and form["model"].get("type") == "BPE":
            told.append("does not compose characters (NFC), so give it text in that form")
    if tokenizer.prefix not in ((), (tokenizer.bos_id,)):
        told.append(f"does not put the tokens {list(tokenizer.prefix)} in front of a text")
    return f"With this tokenizer llama.cpp {' and '.join(told)}." if told else ""


def _append(metadata: Metadata, texts: Sequence[str], kind: PieceKind) -> None:
    """Append tokens: llama.cpp takes the size of the vocabulary from the list, and ends the process
    where two tokens have one text."""
    taken = set(metadata[KEY + "tokens"])
    for text in texts:
        name = next(f"{text}{'_' * n}" for n in count() if f"{text}{'_' * n}" not in taken)
        metadata[KEY + "tokens"].append(name)
        metadata[KEY + "token_type"].append(KINDS.index(kind) + 1)
        if KEY + "scores" in metadata:
            metadata[KEY + "scores"].append(0.0)


def _read_bpe(metadata: Mapping[str, Any]) -> Tokenizer:
    tokens: list[str] = metadata[KEY + "tokens"]
    cut = cut_of(str(metadata.get(KEY + "pre", "gpt-2")))
    kinds = [_kind(number) for number in metadata.get(KEY + "token_type", [])]
    special = [added(i, tokens[i]) for i, kind in enumerate(kinds) if kind == "control"]
    user_tokens = [added(i, tokens[i], False) for i, kind in enumerate(kinds) if kind == "user"]
    form = {
        "version": "1.0",
        "added_tokens": sorted([*special, *user_tokens], key=lambda token: token["id"]),
        "pre_tokenizer": cut.parts,
        "decoder": byte_level(words=True),
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in metadata[KEY + "merges"]],
            "ignore_merges": cut.whole,
        },
    }
    return _library(form, metadata, cut.begins)


def _library(form: Any, metadata: Mapping[str, Any], begins: bool) -> HfTokenizer:
    """Return the tokenizer of a `tokenizer.json` with the control tokens of a file."""
    numbers = [metadata.get(f"{KEY}{name}_token_id") for name in ("bos", "eos")]
    names = [None if number is None else metadata[KEY + "tokens"][number] for number in numbers]
    given = metadata.get(KEY + "add_bos_token", begins)
    return HfTokenizer(
        json.dumps(form, ensure_ascii=False).encode(),
        *names,
        ends=_further_ends(metadata),
        begins_with_bos=bool(given) if numbers[0] is not None else None,
    )


def _further_ends(metadata: Mapping[str, Any]) -> list[int]:
    found = (metadata.get(f"{KEY}{name}_token_id") for name in FURTHER_ENDS)
    return [number for number in found if number is not None]


def _kind(number: int) -> PieceKind:
    """Return the kind of a token by its number; 0 is undefined."""
    return KINDS[number - 1] if 1 <= number <= len(KINDS) else "normal"


def _write_bpe(tokenizer: HfTokenizer) -> Metadata:
    form = json.loads(tokenizer.serialize())
    model = form["model"]
    pre = name_of(form)
    if model.get("type") != "BPE" or pre is None or form.get("normalizer") not in (None, COMPOSED):
        raise DataError(
            "This tokenizer.json has no form in a GGUF file: that knows byte pairs with a cutting "
            f"of words by one of {', '.join(CUTS)}."
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
    kinds = [_kind(number) for number in metadata.get(KEY + "token_type", [1] * len(tokens))]
    pieces = [
        Piece(text.replace(" ", SPACE) if kind == "user" else text, score, kind)
        for text, score, kind in zip(tokens, scores, kinds, strict=True)
    ]
    begins = bool(metadata.get(KEY + "add_bos_token", True))
    prefix = bool(metadata.get(KEY + "add_space_prefix", True))
    begin = _control(metadata, pieces, "bos", USUAL_BEGIN if begins else None)
    end = _control(metadata, pieces, "eos", USUAL_END)
    model = Model(pieces, "bpe", dummy_prefix=prefix, trims=False, begin=begin, end=end)
    if any(piece.kind == "unknown" for piece in pieces):
        content, ends = serialize(model), _further_ends(metadata)
        return SentencePieceTokenizer(content, ends=ends, begins_with_bos=begins)
    # Characters, or bytes: sentencepiece itself takes no model without an unknown piece.
    return _library(pieces_form(model), metadata, begins)


def _control(
    metadata: Mapping[str, Any], pieces: Sequence[Piece], name: str, usual: int | None
) -> str:
    """Return the text of a control token that a file names, or that is usual; "" for none."""
    number: int | None = metadata.get(f"{KEY}{name}_token_id", usual)
    if number is None or number >= len(pieces) or pieces[number].kind != "control":
        return ""
    return pieces[number].text


def _write_pieces(model: Model) -> Metadata:
    if model.model_type != "bpe" or model.normalization != "identity" or model.trims:
        raise DataError(
            "This sentencepiece model has no form in a GGUF file: that knows byte pairs on text as "
            "it is (data.tokenizer.model_type = 'bpe')."
        )
    return {
        KEY + "model": "llama",
        KEY + "pre": "default",
        KEY + "tokens": [_spelling(piece) for piece in model.pieces],
        KEY + "scores": [piece.score for piece in model.pieces],
        KEY + "token_type": [KINDS.index(piece.kind) + 1 for piece in model.pieces],
        KEY + "add_space_prefix": model.dummy_prefix,
    }


def _spelling(piece: Piece) -> str:
    """Return the text of a piece: llama.cpp looks for a user's pieces before it marks spaces."""
    return piece.text.replace(SPACE, " ") if piece.kind == "user" else piece.text


def _beside(tokenizer: HfTokenizer) -> Model | None:
    """Return the sentencepiece model beside a `tokenizer.json` that has the same pieces, with the
    tokens that were added; None where there is none."""
    content = tokenizer.companions.get(MODEL_FILE)
    if content is None:
        return None
    try:
        model = parse(content)
    except ValueError:
        return None
    form = json.loads(tokenizer.serialize())
    vocab = form["model"].get("vocab")
    if not isinstance(vocab, dict) or any(
        vocab.get(p.text) != i for i, p in enumerate(model.pieces)
    ):
        return None
    pieces = list(model.pieces)
    for entry in sorted(form.get("added_tokens", []), key=lambda entry: entry["id"]):
        kind: PieceKind = "control" if entry["special"] else "user"
        piece = Piece(entry["content"], 0.0, kind)
        if entry["id"] == len(pieces):
            pieces.append(piece)
        elif entry["id"] > len(pieces):
            return None
        elif pieces[entry["id"]].kind == "normal":
            pieces[entry["id"]] = piece
    same = SentencePieceTokenizer(content)
    if any(same.encode(text) != tokenizer.encode(text) for text in PROBES):
        return None
    return replace(model, pieces=pieces)


READERS = {"gpt2": _read_bpe, "llama": _read_pieces, "rwkv": read_trie}
"""Readers by llama.cpp's name of a kind of tokenizer."""
