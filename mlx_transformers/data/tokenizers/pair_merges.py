"""Published byte pair encodings (`vocab.json` and `merges.txt`) as a `tokenizer.json`."""

import json
from collections.abc import Mapping

from ...core.errors import DataError
from .class_options import ends_of_words
from .json_form import Form, added, byte_level, form, template
from .settings import Settings

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen 2 cuts a text before byte pair encoding; digits stand alone."""
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""The words of CLIP's texts."""
LOWER = {"type": "Lowercase"}


def byte_pairs(
    vocab: bytes,
    merges: bytes,
    settings: Settings,
    frames: tuple[str, str] | None,
    composed: bool = False,
) -> Form:
    """Byte-level byte pair encoding: GPT-2 (Radford et al. 2019) and its successors.

    Args:
        vocab: `vocab.json`.
        merges: `merges.txt`.
        settings: the published settings.
        frames: the class's default tokens before and after a text (RoBERTa, BART), "" for no
            token; None for neither.
        composed: whether text is brought into Unicode NFC first (GPT-NeoX).
    """
    table, pairs = _table(vocab), _pairs(merges)
    prefix = settings.option("add_prefix_space", False)
    processor = None
    if frames is not None:
        before = [settings.name("cls", frames[0])] if frames[0] else []
        processor = template(before, [settings.name("sep", frames[1])], table)
    return form(
        {"type": "BPE", "vocab": table, "merges": pairs},
        added_tokens=_special(table, settings),
        normalizer={"type": "NFC"} if composed else None,
        pre_tokenizer={**byte_level(words=True), "add_prefix_space": prefix},
        post_processor=processor,
        decoder=byte_level(words=True),
    )


def qwen_pairs(vocab: bytes, merges: bytes, settings: Settings) -> Form:
    """Byte-level byte pair encoding of Qwen 2 (Yang et al. 2024), after Unicode NFC."""
    table, pairs = _table(vocab), _pairs(merges)
    split = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
    cut = [split, byte_level(words=False)]
    return form(
        {"type": "BPE", "vocab": table, "merges": pairs},
        added_tokens=_special(table, settings),
        normalizer={"type": "NFC"},
        pre_tokenizer={"type": "Sequence", "pretokenizers": cut},
        decoder=byte_level(words=False),
    )


def clip_pairs(vocab: bytes, merges: bytes, settings: Settings) -> Form:
    """Byte-level byte pair encoding whose words end in `</w>`: CLIP (Radford et al. 2021)."""
    table, pairs = _table(vocab), _pairs(merges)
    names = {"bos": "<|startoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"}
    special = {role: settings.name(role, text) for role, text in names.items()}
    for role, text in special.items():
        if text not in table:
            raise DataError(f"vocab.json has no {text!r}, which is {role}_token.")
    cut = {"type": "Split", "pattern": {"Regex": CLIP}, "behavior": "Removed", "invert": True}
    white = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    return form(
        {
            "type": "BPE",
            "vocab": table,
            "merges": pairs,
            "unk_token": special["unk"],
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
        },
        added_tokens=[added(table[text], text) for text in dict.fromkeys(special.values())],
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, white, LOWER]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [cut, byte_level(words=False)]},
        post_processor=template([special["bos"]], [special["eos"]], table),
        decoder=ends_of_words(byte_level(words=False)),
    )


def word_pairs(vocab: bytes, merges: bytes, settings: Settings) -> Form:
    """Byte pair encoding whose words end in `</w>`: GPT-1 (Radford et al. 2018), lower case."""
    table, pairs = _table(vocab), _pairs(merges)
    unknown = settings.name("unk", "<unk>")
    if unknown not in table:
        raise DataError(f"vocab.json has no {unknown!r}, which stands for unknown characters.")
    return form(
        {
            "type": "BPE",
            "vocab": table,
            "merges": pairs,
            "unk_token": unknown,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
        },
        added_tokens=[added(table[unknown], unknown)],
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "BPEDecoder", "suffix": "</w>"},
    )


def _table(vocab: bytes) -> dict[str, int]:
    ids = json.loads(vocab)
    if not isinstance(ids, dict) or not all(isinstance(i, int) for i in ids.values()):
        raise ValueError("vocab.json is not a table of tokens and numbers")
    return ids


def _pairs(merges: bytes) -> list[list[str]]:
    lines = merges.decode("utf-8").replace("\r\n", "\n").split("\n")
    lines = [line for line in lines if line and not line.startswith("#version")]
    return [line.split(" ")[:2] for line in lines]


def _special(table: Mapping[str, int], settings: Settings) -> list[Form]:
    names = ("<|endoftext|>", *settings.names.values(), *settings.additional)
    return [added(table[name], name) for name in dict.fromkeys(names) if name in table]
