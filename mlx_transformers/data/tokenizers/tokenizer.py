"""The tokenizer slot: text to token ids and back."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from ...core.errors import DataError
from ...recipe.config import Kind
from ..cache import write_json, write_whole


class Tokenizer(ABC):
    """Text to token ids in [0, vocab_size) and back.

    Encoding never produces a control token (BOS, EOS), whatever the text: `<s>` typed by a user is
    three characters. Control tokens decode to nothing.
    """

    kind: str
    """The kind of the config that builds it."""
    payload: str
    """Name of its file in a saved folder."""
    package: str | None = None
    """The package it relies on, whose version is recorded."""

    vocab_size: int
    """V, with control tokens that were added for an objective."""
    bos_id: int | None = None
    """Begins a document; None if the vocabulary has no such token."""
    eos_id: int | None = None
    """Ends a document; None if the vocabulary has no such token, and documents then follow each
    other without a separator."""
    unknown_id: int | None = None
    """Stands for any word that the vocabulary lacks; None where every text has tokens of its own,
    or where it is one token among others."""
    prefix: tuple[int, ...] = ()
    """Tokens that the template it was published with puts before a text (BOS, mostly)."""
    ends: tuple[int, ...] = ()
    """Ids that end a text beside `eos_id`, of a chat model for instance."""
    controls: Mapping[str, int] = MappingProxyType({})
    """Tokens that batches insert, by role (see `controls.USUAL`)."""
    companions: Mapping[str, bytes] = MappingProxyType({})
    """Files published beside it that are saved and exported with it, by name (a chat template,
    say)."""

    @property
    def text_vocab_size(self) -> int:
        """Tokens that text can consist of: the vocabulary without added control tokens."""
        return self.vocab_size

    @property
    def n_writable(self) -> int:
        """How many tokens, counted from the first, a model of text may write; the others are those
        of pictures."""
        return self.vocab_size

    @property
    def text_id_limit(self) -> int:
        """One more than the largest id that a text can give: tokens beyond it are control tokens,
        which a model may lack."""
        return self.vocab_size

    @property
    def special_ids(self) -> Mapping[str, int]:
        """Control tokens of its vocabulary by their text."""
        return {}

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of conversations that it was published with, or None."""
        return published_template(self.companions)

    @property
    def inside(self) -> "Tokenizer":
        """Encodes what follows a control token inside a text: itself, unless it puts something in
        front of texts alone."""
        return self

    @property
    def context(self) -> list[int]:
        """Tokens of a letter, before which others are decoded as the continuation of a text; empty
        where each token has bytes of its own."""
        return []

    @property
    def end_ids(self) -> frozenset[int]:
        """All ids that end a text."""
        return frozenset(self.ends) | (set() if self.eos_id is None else {self.eos_id})

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without control tokens."""

    def encode_special(self, text: str) -> list[int]:
        """Return the tokens of a text in which control tokens are spelled out, as in `<s>Hi`."""
        special = self.special_ids
        if not special:
            return self.encode(text)
        tokens: list[int] = []
        for i, part in enumerate(re.split(_any_of(special), text)):
            text_of = self.inside if i else self
            tokens += [special[part]] if i % 2 else text_of.encode(part) if part else []
        return tokens

    def encode_special_with_ends(self, text: str) -> tuple[list[int], np.ndarray]:
        """Return `encode_special`, and where in the text's UTF-8 bytes each token ends, [n]."""
        special = self.special_ids
        if not special:
            return self.encode_with_ends(text)
        tokens: list[int] = []
        ends, at = [np.zeros(0, np.int64)], 0
        for i, part in enumerate(re.split(_any_of(special), text)):
            if i % 2:
                tokens.append(special[part])
                ends.append(np.array([at + len(part.encode())]))
            elif part:
                part_tokens, places = (self.inside if i else self).encode_with_ends(part)
                tokens += part_tokens
                ends.append(at + np.asarray(places, np.int64))
            at += len(part.encode())
        return tokens, np.concatenate(ends)

    def encode_with_ends(self, text: str) -> tuple[list[int], np.ndarray]:
        """Return the tokens of a text, and where in its UTF-8 bytes each token ends, [n]."""
        tokens = self.encode(text)
        lengths = [len(self.token_bytes(token) or b"") for token in tokens]
        n_bytes = len(text.encode())
        # A space that the tokenizer puts before a text is not part of it.
        ends = np.cumsum(lengths) - (sum(lengths) - n_bytes)
        return tokens, np.clip(ends, 0, n_bytes)

    def encode_array(self, text: str) -> np.ndarray:
        """Return the tokens of a text as an integer array [n]; faster for long texts."""
        return np.asarray(self.encode(text), dtype=np.int64)

    @abstractmethod
    def token_bytes(self, token: int) -> bytes | None:
        """Return the UTF-8 bytes of a token (perhaps part of a character), empty for a control
        token; None if tokens have no bytes of their own (see `StreamDecoder`)."""

    def control_id(self, role: str, usual: tuple[str, ...]) -> int | None:
        """Return the token of its own vocabulary for a role of `controls.USUAL`, or None."""
        return {"start": self.bos_id, "end": self.eos_id}.get(role)

    def control(self, role: str) -> int:
        """Return the token of a role, e.g. "mask" or "start".

        Raises:
            DataError: it has none; the recipe's batch kind declares the roles that it needs.
        """
        raise DataError(
            f"This tokenizer ({self.kind}) has no '{role}' token: the batches that it was "
            "prepared for (data.batch) need none."
        )

    def surface(self, token: int) -> str:
        """Return the text of a token inside a line, with a leading space if it begins a word."""
        return (self.token_bytes(token) or b"").decode("utf-8", "replace")

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; invalid UTF-8 becomes U+FFFD."""
        parts = [self.token_bytes(int(token)) or b"" for token in tokens]
        return b"".join(parts).decode("utf-8", "replace")

    def count_bytes(self, tokens: np.ndarray) -> int:
        """Return the number of UTF-8 bytes of the text of tokens [n]."""
        if self.token_bytes(0) is None:
            return len(self.decode(tokens).encode())
        counts = np.bincount(tokens, minlength=1)
        return sum(
            int(counts[token]) * len(self.token_bytes(int(token)) or b"")
            for token in np.flatnonzero(counts)
        )

    @abstractmethod
    def serialize(self) -> bytes:
        """Return the content of its file; `read` is the inverse."""

    @classmethod
    @abstractmethod
    def read(cls, content: bytes) -> "Tokenizer":
        """Return the tokenizer that `serialize` wrote.

        Raises:
            ValueError: the content is something else.
        """

    def fingerprint(self) -> str:
        """Return a hash of everything that decides how it encodes."""
        return hashlib.sha256(self.kind.encode() + b"\n" + self.serialize()).hexdigest()

    def description(self) -> dict[str, Any]:
        """Return the content of its manifest."""
        return {
            "kind": self.kind,
            "vocab_size": self.vocab_size,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "fingerprint": self.fingerprint(),
            "file": self.payload,
            **({"ends": list(self.ends)} if self.ends else {}),
            **({"companions": sorted(self.companions)} if self.companions else {}),
        }

    def save(self, folder: Path) -> None:
        """Write `manifest.json`, the file it names and the companions into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / self.payload, self.serialize())
        for name, content in self.companions.items():
            write_whole(folder / name, content)
        write_json(folder / "manifest.json", self.description())


def _any_of(special: Iterable[str]) -> str:
    """A regular expression with a group of any of the texts, longer ones first."""
    return "(" + "|".join(map(re.escape, sorted(special, key=len, reverse=True))) + ")"


def published_template(companions: Mapping[str, bytes]) -> str | None:
    """The chat template among the files published beside a tokenizer: a file of its own, or a key
    of `tokenizer_config.json`, of which the one named "default" counts; None if there is none."""
    if "chat_template.jinja" in companions:
        return companions["chat_template.jinja"].decode()
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = json.loads(companions.get(name, b"{}")).get("chat_template")
        if isinstance(template, list):
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
        if isinstance(template, str):
            return template
    return None


class TokenizerKind(Kind, ABC):
    """A kind of tokenizer: trained on the text, read from a file, or fixed."""

    trained_on: ClassVar[Literal["nothing", "train", "all"]] = "nothing"
    """The splits that `build` reads."""

    @abstractmethod
    def build(self, texts: Iterable[str]) -> Tokenizer:
        """Return the tokenizer.

        Args:
            texts: the text of the splits that `trained_on` names.

        Raises:
            DataError: its file can't be read, or it can't be trained on this text.
        """

    @property
    def known_vocab_size(self) -> int | None:
        """The size of its vocabulary as far as the recipe gives it; None if the text or a file
        decides it."""
        return None

    def file(self) -> Path | None:
        """Return the file or folder that it is read from; None if it is trained or fixed."""
        return None

    @property
    def is_trained(self) -> bool:
        """Whether `build` trains it on the text."""
        return self.trained_on != "nothing" and self.file() is None
