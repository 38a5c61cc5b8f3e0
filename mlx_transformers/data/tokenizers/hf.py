"""A `tokenizer.json`, through the Hugging Face tokenizers library."""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...core.errors import DataError, reason, unknown
from ...core.paths import expanded, shown
from .tokenizer import Tokenizer, TokenizerKind

ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[SEP]")
BEGINS = ("<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>", "[CLS]")


class HfTokenizer(Tokenizer):
    """A tokenizer of the Hugging Face library, without its padding and truncation.

    Its template is not applied by `encode`; what it puts before a text is in `prefix`.
    """

    kind = "tokenizer_json"
    payload = "tokenizer.json"
    package = "tokenizers"

    def __init__(
        self,
        content: bytes,
        bos: str | None = None,
        eos: str | None = None,
        *,
        names: Mapping[str, str] | None = None,
        ends: Iterable[int] = (),
        begins_with_bos: bool | None = None,
    ) -> None:
        """
        Args:
            content: the `tokenizer.json`.
            bos, eos: the tokens that begin and end a document; None takes the first of the usual
                names in the vocabulary, "" is none.
            names: the special token of a role ("cls", "sep", "pad", "mask").
            ends: further ids that end a text.
            begins_with_bos: whether a text is preceded by `bos`; None as the template has it.
        """
        self._tokenizer = _load(content)
        self._content = content
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self.vocab_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.bos, self.bos_id = self._control(bos, BEGINS)
        self.eos, self.eos_id = self._control(eos, ENDS)
        self.names = dict(names or {})
        self.ends = tuple(ends)
        self.begins_with_bos = begins_with_bos
        self.prefix = self._prefix()

    def _prefix(self) -> tuple[int, ...]:
        """The tokens that the template puts before a text."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a", add_special_tokens=True).ids
        n = len(bare)
        starts = range(len(framed) - n + 1) if n else ()
        before: list[int] = next((framed[:i] for i in starts if framed[i : i + n] == bare), [])
        if self.begins_with_bos is None or self.bos_id is None:
            return tuple(before)
        if self.begins_with_bos:
            return tuple(before) if self.bos_id in before else (self.bos_id, *before)
        return tuple(token for token in before if token != self.bos_id)

    @cached_property
    def context(self) -> list[int]:
        ids = sorted(self._tokenizer.get_vocab(with_added_tokens=False).values())
        return next(([token] for token in ids if self.decode([token]).isalnum()), [])

    @cached_property
    def special_ids(self) -> Mapping[str, int]:
        added_tokens = self._tokenizer.get_added_tokens_decoder().items()
        return {token.content: number for number, token in added_tokens if token.special}

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.special_ids.values())

    @cached_property
    def text_id_limit(self) -> int:
        special = self._special
        table = self._tokenizer.get_vocab(with_added_tokens=True).values()
        return max((number for number in table if number not in special), default=-1) + 1

    def _control(self, token: str | None, usual: tuple[str, ...]) -> tuple[str | None, int | None]:
        if token == "":
            return token, None
        if token is None:
            token = next((t for t in usual if self._tokenizer.token_to_id(t) is not None), None)
            return token, None if token is None else self._tokenizer.token_to_id(token)
        if (number := self._tokenizer.token_to_id(token)) is None:
            raise DataError(unknown("token", token, self._tokenizer.get_vocab()))
        return token, number

    def control_id(self, role: str, usual: tuple[str, ...]) -> int | None:
        if role in ("start", "end") and (control := super().control_id(role, usual)) is not None:
            return control
        by_name: int | None = self._tokenizer.token_to_id(self.names.get(role, ""))
        if by_name is not None:
            return by_name
        candidates = (self._tokenizer.token_to_id(name) for name in usual)
        return next((token for token in candidates if token is not None), None)

    def surface(self, token: int) -> str:
        piece = self._tokenizer.id_to_token(token) or ""
        if piece.startswith("##"):
            return piece[2:]
        if self._continues:
            return f" {piece}"
        return piece.replace("\u0120", " ").replace("\u2581", " ").replace("\u010a", "\n")

    @cached_property
    def _continues(self) -> bool:
        """Whether its vocabulary marks the pieces that continue a word, as WordPiece does."""
        return any(piece.startswith("##") for piece in self._tokenizer.get_vocab())

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self._encoding(text).ids
        return tokens

    def _encoding(self, text: str) -> Any:
        """The library's encoding of a text.

        Raises:
            DataError: a character has no token, and the vocabulary has no token for unknown ones.
        """
        try:
            return self._tokenizer.encode(text, add_special_tokens=False)
        except BaseException as error:  # the library raises no class of its own
            if not _of_the_library(error):
                raise
            raise DataError(
                f"This tokenizer can't encode {shown(text[:40])!r}: {error}. Its vocabulary is "
                "incomplete, or another file of it is missing."
            ) from None

    def encode_special(self, text: str) -> list[int]:
        self._tokenizer.encode_special_tokens = False
        try:
            return self.encode(text)
        finally:
            self._tokenizer.encode_special_tokens = True

    def encode_special_with_ends(self, text: str) -> tuple[list[int], np.ndarray]:
        self._tokenizer.encode_special_tokens = False
        try:
            return self.encode_with_ends(text)
        finally:
            self._tokenizer.encode_special_tokens = True

    def encode_with_ends(self, text: str) -> tuple[list[int], np.ndarray]:
        encoding = self._encoding(text)
        before = np.cumsum([0, *(len(character.encode()) for character in text)])
        return encoding.ids, before[[end for _, end in encoding.offsets]]

    def token_bytes(self, token: int) -> None:
        return None

    def decode(self, tokens: Iterable[int]) -> str:
        special = self._special
        numbers = [number for token in tokens if (number := int(token)) not in special]
        if not numbers:  # some decoders can't take an empty text
            return ""
        try:
            text: str = self._tokenizer.decode(numbers, skip_special_tokens=False)
        except BaseException as error:
            if not _of_the_library(error):
                raise
            raise DataError(
                f"This tokenizer can't decode the tokens {numbers[:8]}: {error}. The decoder of "
                "its tokenizer.json doesn't fit its vocabulary: take the file anew from its source."
            ) from None
        return text

    def serialize(self) -> bytes:
        return self._content

    def description(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"bos": self.bos, "eos": self.eos}
        if self.names:
            settings["names"] = self.names
        if self.begins_with_bos is not None:
            settings["begins_with_bos"] = self.begins_with_bos
        return super().description() | settings

    @classmethod
    def read(cls, content: bytes) -> "HfTokenizer":
        return cls(content)


class TokenizerJson(TokenizerKind):
    """A `tokenizer.json` as published with a model. Text is encoded as that tokenizer does,
    which may lose something (case, accents, runs of spaces)."""

    kind: Literal["tokenizer_json"] = "tokenizer_json"

    path: str
    """The `tokenizer.json`, or the folder that holds it."""

    bos: str | None = None
    """Begins a document. Unset: the first of the usual names that the vocabulary has."""

    eos: str | None = None
    """Ends a document. Unset: the first of the usual names that the vocabulary has."""

    def build(self, texts: Iterable[str]) -> HfTokenizer:
        """Return the tokenizer; `texts` is not read.

        Raises:
            DataError: the file can't be read, or the `tokenizers` package is absent.
        """
        file = self.file()
        try:
            return HfTokenizer(file.read_bytes(), self.bos, self.eos)
        except DataError:
            raise
        except (OSError, ValueError) as error:
            raise DataError(
                f"data.tokenizer.path: {file} can't be read ({reason(error)}). It has to be a "
                "tokenizer.json as models are published with, or the folder that holds one."
            ) from error

    def file(self) -> Path:
        file = expanded(self.path)
        return file / "tokenizer.json" if file.is_dir() else file


def _load(content: bytes) -> Any:
    try:
        from tokenizers import Tokenizer as Library
    except ImportError:
        raise DataError(
            "A tokenizer.json needs the `tokenizers` package: pip install tokenizers."
        ) from None
    try:
        json.loads(content)
        return Library.from_buffer(content)
    except BaseException as error:
        if not _of_the_library(error):
            raise
        raise ValueError(f"not a tokenizer.json: {error}") from error


def _of_the_library(error: BaseException) -> bool:
    """Whether the library raised it; a panic of its Rust code is no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
