"""Options of a tokenizer's class that change what its `tokenizer.json` does.

The classes of transformers build their parts anew from `tokenizer_config.json`, so that an option
there wins over the file. Here an option that is set changes the part of the form that it governs.
"""

from collections.abc import Callable
from typing import Any

from .json_form import Form, added
from .sentencepiece import SPACE
from .settings import Settings

BERT = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
"""Options of BERT's classes by their name in the normalizer."""
BYTE_LEVEL = (
    *("GPT2Tokenizer", "CodeGenTokenizer", "GPTNeoXTokenizer", "RobertaTokenizer"),
    *("BartTokenizer", "LongformerTokenizer", "LEDTokenizer", "MvpTokenizer", "DebertaTokenizer"),
    *("BlenderbotTokenizer", "Qwen2Tokenizer", "WhisperTokenizer"),
)
LLAMA = ("LlamaTokenizer", "CodeLlamaTokenizer")


def with_class_options(form: Form, settings: Settings) -> Form:
    """The form with the options of its class, and its special tokens listed as such."""
    name, model = settings.tokenizer_class, form["model"]
    if model.get("type") == "WordPiece" and name is not None and name != "PreTrainedTokenizer":
        options = {new: settings.table[old] for old, new in BERT.items() if old in settings.table}
        options = {n: v for n, v in options.items() if v is not None or n == "strip_accents"}
        form = _changed(form, "normalizer", "BertNormalizer", lambda part: part | options)
    prefix = settings.table.get("add_prefix_space")
    if name in BYTE_LEVEL and isinstance(prefix, bool):
        options = {"add_prefix_space": prefix}
        form = _changed(form, "pre_tokenizer", "ByteLevel", lambda part: part | options)
    if name in LLAMA and prefix is False:
        form = _without_prefix(form)
    if name == "CLIPTokenizer" and (form.get("decoder") or {}).get("type") == "ByteLevel":
        form = {**form, "decoder": ends_of_words(form["decoder"])}
    return _with_special(form, settings)


def ends_of_words(inner: Form) -> Form:
    """A decoder that turns `</w>`, which ends CLIP's words, into spaces."""
    ends = {"type": "Replace", "pattern": {"String": "</w>"}, "content": " "}
    trim = {"type": "Strip", "content": " ", "start": 0, "stop": 1}
    return {"type": "Sequence", "decoders": [inner, ends, trim]}


def metaspace(form: Form, scheme: str) -> Form:
    """A form that puts a space in front of a text, with LlamaTokenizer's rule of where.

    Args:
        form: a sentencepiece model.
        scheme: "first", in front of the whole text alone, or "always", behind each control token
            in it too (the class's `legacy`).
    """
    parts = (form["normalizer"] or {}).get("normalizers", [])
    if not any(part["type"] == "Prepend" for part in parts):
        return form
    normalizers = [p for p in parts if p["type"] != "Prepend" and p.get("content") != SPACE]
    cut = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False}
    normalizer = {"type": "Sequence", "normalizers": normalizers} if normalizers else None
    return {**form, "normalizer": normalizer, "pre_tokenizer": cut}


def _with_special(form: Form, settings: Settings) -> Form:
    """Special tokens that are entries of the vocabulary alone become added tokens."""
    vocab = form["model"].get("vocab") or {}
    ids = {v[0]: i for i, v in enumerate(vocab)} if isinstance(vocab, list) else vocab
    listed = {token["content"] for token in form.get("added_tokens") or []}
    names = dict.fromkeys((*settings.names.values(), *settings.additional))
    new = [added(ids[n], n) for n in names if n in ids and n not in listed]
    return {**form, "added_tokens": [*(form.get("added_tokens") or []), *new]} if new else form


def _changed(form: Form, place: str, kind: str, change: Callable[[Form], Form]) -> Form:
    """The form with each part of a kind changed, alone or in a sequence."""

    def walked(part: object) -> Any:
        if isinstance(part, list):
            return [walked(item) for item in part]
        if not isinstance(part, dict):
            return part
        if part.get("type") == kind:
            return change(part)
        inner = ("normalizers", "pretokenizers", "decoders")
        return {name: walked(v) if name in inner else v for name, v in part.items()}

    return {**form, place: walked(form.get(place))}


def _without_prefix(form: Form) -> Form:
    """No space in front of a text: neither put there nor taken away again."""
    form = _changed(form, "pre_tokenizer", "Metaspace", lambda p: p | {"prepend_scheme": "never"})
    form = _changed(form, "decoder", "Metaspace", lambda p: p | {"prepend_scheme": "never"})
    for place, inner, kind in (
        ("normalizer", "normalizers", "Prepend"),
        ("decoder", "decoders", "Strip"),
    ):
        part = form.get(place) or {}
        if isinstance(part.get(inner), list):
            remaining = [item for item in part[inner] if item.get("type") != kind]
            form = {**form, place: {**part, inner: remaining} if remaining else None}
    return form
