"""Tokenizers as models are published with them: read from a folder, and written into one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from .controls import Controlled
from .hf import HfTokenizer
from .json_form import added, byte_level, json_form
from .sentencepiece import SentencePieceTokenizer
from .tokenizer import Tokenizer

JSON = "tokenizer.json"
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
TABLES = ("vocab.json", "merges.txt", "vocab.txt")
SETTINGS = "tokenizer_config.json"
TRAVELLERS = (
    *(SETTINGS, "special_tokens_map.json", "added_tokens.json", "generation_config.json"),
    *("chat_template.jinja", "chat_template.json", *SENTENCEPIECE, *TABLES),
)
"""Files that are kept beside a tokenizer, for whoever asks for a chat template or exports it."""


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a published folder with all that came beside it; None where there is none.

    A `tokenizer.json` is taken before a sentencepiece model, and that before word lists.

    Raises:
        DataError: there is one, and it can't be read.
    """
    travellers = {n: (folder / n).read_bytes() for n in TRAVELLERS if (folder / n).is_file()}
    try:
        found = _read(folder, travellers)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"The tokenizer in {folder} can't be read: {error}.") from error
    if found is not None:
        travellers = {n: c for n, c in travellers.items() if c != found.serialize()}
        found.companions = travellers
    return found


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files that other libraries open as this tokenizer, by name; none for bare numbers.

    What came with it when it was imported goes out as it came in.
    """
    inner = tokenizer.inner if isinstance(tokenizer, Controlled) else tokenizer
    files = dict(tokenizer.companions)
    form = _form(inner)
    if inner is not tokenizer and form is not None:
        own = form.get("added_tokens", [])
        form["added_tokens"] = own + _controls(tokenizer, inner)
    if isinstance(inner, HfTokenizer) and inner is tokenizer:
        files[JSON] = inner.serialize()
    elif form is not None:
        files[JSON] = (json.dumps(form, ensure_ascii=False, indent=1) + "\n").encode()
    if isinstance(inner, SentencePieceTokenizer):
        files.setdefault("tokenizer.model", inner.serialize())
    if files and SETTINGS not in files:
        files[SETTINGS] = (json.dumps(_settings(inner), indent=1) + "\n").encode()
    return files


def _form(tokenizer: Tokenizer) -> dict[str, Any] | None:
    if isinstance(tokenizer, HfTokenizer):
        return dict(json.loads(tokenizer.serialize()))
    return json_form(tokenizer)


def _controls(tokenizer: Tokenizer, inner: Tokenizer) -> list[dict[str, Any]]:
    """Entries for control tokens that the inner vocabulary lacks."""
    roles: dict[str, int] = getattr(tokenizer, "controls", {})
    new = {role: number for role, number in roles.items() if number >= inner.vocab_size}
    return [added(number, f"<|{role}|>") for role, number in new.items()]


def control_tokens(tokenizer: Tokenizer, begins: str | None = None) -> dict[str, int]:
    """The keys of a config that name control tokens, as far as it has them.

    Args:
        tokenizer: the tokenizer of the run.
        begins: the role of the token that begins a target, for what writes beside a source.
    """
    roles: dict[str, int] = getattr(tokenizer, "controls", {})
    found = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": roles.get("end", tokenizer.eos_id),
        "decoder_start_token_id": roles.get(begins) if begins else None,
        **{f"{role}_token_id": roles.get(role) for role in ("pad", "cls", "sep", "mask")},
    }
    return {name: number for name, number in found.items() if number is not None}


def _read(folder: Path, travellers: Mapping[str, bytes]) -> Tokenizer | None:
    settings: dict[str, Any] = json.loads(travellers.get(SETTINGS, b"{}"))
    bos, eos = (_content(settings.get(name)) for name in ("bos_token", "eos_token"))
    if (folder / JSON).is_file():
        return HfTokenizer((folder / JSON).read_bytes(), bos, eos)
    if model := next((travellers[name] for name in SENTENCEPIECE if name in travellers), None):
        return SentencePieceTokenizer(model)
    if "vocab.json" in travellers and "merges.txt" in travellers:
        form = _byte_level(travellers["vocab.json"], travellers["merges.txt"])
        return HfTokenizer(form, bos, eos)
    if "vocab.txt" in travellers:
        lower = settings.get("do_lower_case", True)
        return HfTokenizer(_word_piece(travellers["vocab.txt"], lower), bos, eos)
    return None


def _content(token: Any) -> str | None:
    """A special token, which is a string or a table with one."""
    return token.get("content") if isinstance(token, dict) else token


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    if isinstance(tokenizer, HfTokenizer):
        names = {"bos_token": tokenizer.bos or "", "eos_token": tokenizer.eos or ""}
    have = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{name: names[name] for name, number in have.items() if number is not None},
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "add_eos_token": False,
    }


def _byte_level(vocab: bytes, merges: bytes) -> bytes:
    """GPT-2's two files as a tokenizer.json."""
    table = json.loads(vocab)
    lines = merges.decode("utf-8").splitlines()
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    special = [token for token in ("<|endoftext|>",) if token in table]
    form = {
        "version": "1.0",
        "added_tokens": [added(table[token], token) for token in special],
        "pre_tokenizer": byte_level(words=True),
        "decoder": byte_level(words=True),
        "model": {"type": "BPE", "vocab": table, "merges": pairs},
    }
    return json.dumps(form).encode()


def _word_piece(vocab: bytes, lower: bool) -> bytes:
    """BERT's word list as a tokenizer.json."""
    table = {word: i for i, word in enumerate(vocab.decode("utf-8").splitlines())}
    special = [t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in table]
    form = {
        "version": "1.0",
        "added_tokens": [added(table[token], token) for token in special],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lower,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": table,
        },
    }
    return json.dumps(form).encode()
