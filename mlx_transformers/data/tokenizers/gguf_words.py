"""How byte-level BPE cuts a text into words, by llama.cpp's names of it.

Names and patterns: llama.cpp, `src/llama-vocab.cpp` (`llm_tokenizer_bpe`, `impl::load`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import DataError, unknown
from .json_form import Form, byte_level

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Cut:
    """A cutting of words.

    Attributes:
        parts: the pre-tokenizer of a `tokenizer.json`.
        whole: whether a word that is a token is one, whatever the merges make of it.
        begins: whether a text begins with the begin token where the file doesn't say.
        others: further names of the same.
    """

    parts: Form
    whole: bool = False
    begins: bool = False
    others: tuple[str, ...] = ()


def _pattern(pattern: str) -> Form:
    """Return a pre-tokenizer that cuts words by a pattern and writes them as byte characters."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return _sequence(split | {"invert": False}, byte_level(words=False))


def _sequence(*parts: Form) -> Form:
    return {"type": "Sequence", "pretokenizers": list(parts)}


THREE_DIGITS = _pattern(CONTRACTIONS + r"\p{N}{1,3}" + REST)
CUTS = {
    "gpt-2": Cut(
        byte_level(words=True),
        others=("phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "mellum", "modern-bert"),
    ),
    "smollm": Cut(
        _sequence({"type": "Digits", "individual_digits": True}, byte_level(words=True)),
        others=("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"),
    ),
    "llama-bpe": Cut(
        THREE_DIGITS,
        whole=True,
        begins=True,
        others=("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    ),
    "dbrx": Cut(THREE_DIGITS, others=("smaug-bpe", "chatglm-bpe")),
    "glm4": Cut(THREE_DIGITS, whole=True, others=("glm5",)),
    "qwen2": Cut(
        _pattern(CONTRACTIONS + r"\p{N}" + REST),
        others=("stablelm2", "megrez", "deepseek-r1-qwen", "hunyuan", "solar-open", "grok-2"),
    ),
}
"""By llama.cpp's name."""


def cut_of(name: str) -> Cut:
    """Return the cutting of a name.

    Raises:
        DataError: it isn't built.
    """
    for usual, cut in CUTS.items():
        if name == usual or name in cut.others:
            return cut
    raise DataError(unknown("GGUF cutting of words", name, CUTS))


def name_of(form: Mapping[str, Any]) -> str | None:
    """Return llama.cpp's name of the cutting of a `tokenizer.json`; None if it has none."""
    parts = _plain(form.get("pre_tokenizer") or {})
    whole = bool(form["model"].get("ignore_merges"))
    found = (name for name, cut in CUTS.items() if (_plain(cut.parts), cut.whole) == (parts, whole))
    return next(found, None)


def _plain(part: Mapping[str, Any]) -> Form:
    """Return a pre-tokenizer with its defaults, without what doesn't change tokens."""
    kind, rest = part.get("type"), {k: v for k, v in part.items() if k != "trim_offsets"}
    if kind == "Sequence":
        parts = [_plain(each) for each in part["pretokenizers"]]
        return parts[0] if len(parts) == 1 else {"type": kind, "pretokenizers": parts}
    return {"use_regex": True, **rest} if kind == "ByteLevel" else rest
