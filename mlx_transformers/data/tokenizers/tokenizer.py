"""What a tokenizer is."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from ...core.errors import DataError
from ..cache import write_json, write_whole


class Tokenizer(ABC):
    """Text to integers in [0, vocab_size) and back.

    A control token (begin, end) is never made from text, whatever the text says: `<s>` typed by
    a user is three characters. It decodes to nothing.
    """

    kind: ClassVar[str]
    """The kind of the config that builds it."""
    payload: ClassVar[str]
    """Name of the file that holds it in a saved folder."""
    package: ClassVar[str | None] = None
    """The package that does the work, whose version is recorded."""

    vocab_size: int
    bos_id: int | None = None
    """Begins a document, where the vocabulary has such a token."""
    eos_id: int | None = None
    """Ends a document, where the vocabulary has such a token; else documents follow each other
    with nothing between them."""
    companions: Mapping[str, bytes] = MappingProxyType({})
    """Files that were published beside it and travel with it, by name: its chat template, say."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without control tokens."""

    def encode_with_ends(self, text: str) -> tuple[list[int], np.ndarray]:
        """`encode`, and the place in the UTF-8 bytes of the text where each token ends, [n]."""
        tokens = self.encode(text)
        lengths = [len(self.token_bytes(token) or b"") for token in tokens]
        n_bytes = len(text.encode())
        # A space that the tokenizer puts before a text is none of it.
        ends = np.cumsum(lengths) - (sum(lengths) - n_bytes)
        return tokens, np.clip(ends, 0, n_bytes)

    def encode_array(self, text: str) -> np.ndarray:
        """`encode` as an array [n] of integers, for long texts."""
        return np.asarray(self.encode(text), dtype=np.int64)

    @abstractmethod
    def token_bytes(self, token: int) -> bytes | None:
        """The UTF-8 bytes that a token stands for (perhaps part of a character), empty for a
        control token; None where tokens have no bytes of their own (see `StreamDecoder`)."""

    def control_id(self, role: str, usual: tuple[str, ...]) -> int | None:
        """The token of its own vocabulary that plays a role of `controls.USUAL`, if it has one."""
        return {"start": self.bos_id, "end": self.eos_id}.get(role)

    def control(self, role: str) -> int:
        """The token that plays a role, e.g. "mask" or "start".

        Raises:
            DataError: it has none; the batch kind of a recipe says which it needs.
        """
        raise DataError(
            f"This tokenizer ({self.kind}) has no '{role}' token: the batches that it was "
            "prepared for (data.batch) need none."
        )

    def surface(self, token: int) -> str:
        """The text of a token inside a line, with the space before it where it begins a word."""
        return (self.token_bytes(token) or b"").decode("utf-8", "replace")

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; bytes that make no character become U+FFFD."""
        parts = [self.token_bytes(int(token)) or b"" for token in tokens]
        return b"".join(parts).decode("utf-8", "replace")

    def count_bytes(self, tokens: np.ndarray) -> int:
        """UTF-8 bytes of the text of tokens [n]."""
        if self.token_bytes(0) is None:
            return len(self.decode(tokens).encode())
        counts = np.bincount(tokens, minlength=1)
        return sum(
            int(counts[token]) * len(self.token_bytes(int(token)) or b"")
            for token in np.flatnonzero(counts)
        )

    @abstractmethod
    def serialize(self) -> bytes:
        """Everything it is, as the content of its file; `read` is the inverse."""

    @classmethod
    @abstractmethod
    def read(cls, content: bytes) -> "Tokenizer":
        """The tokenizer that `serialize` wrote.

        Raises:
            ValueError: the content is something else.
        """

    def fingerprint(self) -> str:
        """A hash of all that decides how it encodes."""
        return hashlib.sha256(self.kind.encode() + b"\n" + self.serialize()).hexdigest()

    def description(self) -> dict[str, Any]:
        """What its manifest says."""
        return {
            "kind": self.kind,
            "vocab_size": self.vocab_size,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "fingerprint": self.fingerprint(),
            "file": self.payload,
            **({"companions": sorted(self.companions)} if self.companions else {}),
        }

    def save(self, folder: Path) -> None:
        """Write `manifest.json` and the file it names, and its companions, into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / self.payload, self.serialize())
        for name, content in self.companions.items():
            write_whole(folder / name, content)
        write_json(folder / "manifest.json", self.description())

    def check(self, tokens: Iterable[int]) -> None:
        """Refuse tokens that the vocabulary doesn't have.

        Raises:
            DataError: a token is out of range.
        """
        array = np.asarray(list(tokens))
        if array.size and not 0 <= array.min() <= array.max() < self.vocab_size:
            raise DataError(
                f"Tokens from {array.min()} to {array.max()} are not all of this tokenizer "
                f"({self.kind}, {self.vocab_size} tokens)."
            )
