"""The byte tokenizer: no training, no unknown characters."""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from .tokenizer import Tokenizer, TokenizerKind


class ByteTokenizer(Tokenizer):
    """Token i is byte i of the UTF-8 text, for i < 256; 256 ends a document."""

    kind = "byte"
    payload = "byte.txt"
    vocab_size = 257
    eos_id = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_array(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), dtype=np.uint8)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def serialize(self) -> bytes:
        return b"UTF-8 bytes; 256 ends a document\n"

    @classmethod
    def read(cls, content: bytes) -> "ByteTokenizer":
        if content != cls().serialize():
            raise ValueError("not the mark of a byte tokenizer")
        return cls()


class Byte(TokenizerKind):
    """The 256 bytes of UTF-8 and an end-of-document token (Xue et al. 2021, ByT5, without
    its unused tokens)."""

    kind: Literal["byte"] = "byte"

    def build(self, texts: Iterable[str]) -> ByteTokenizer:
        """Return the tokenizer; `texts` is not read."""
        return ByteTokenizer()
