"""Token ids written as numbers, for models that come without a tokenizer."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from ...core.errors import DataError
from .tokenizer import Tokenizer, TokenizerKind


class NumberTokenizer(Tokenizer):
    """Text is token ids separated by spaces: "3 14 15"."""

    kind = "numbers"
    payload = "numbers.txt"

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode(self, text: str) -> list[int]:
        ids = text.split()
        for n in ids:
            if not (n.isascii() and n.isdecimal() and int(n) < self.vocab_size):
                raise DataError(
                    f"'{n[:40]}' is not the number of a token from 0 to {self.vocab_size - 1}: "
                    "this model came without a tokenizer, so its text is numbers, as in '3 14 15'."
                )
        return [int(n) for n in ids]

    def token_bytes(self, token: int) -> bytes:
        return f"{token} ".encode()

    def serialize(self) -> bytes:
        return f"{self.vocab_size} tokens, written as numbers\n".encode()

    @classmethod
    def read(cls, content: bytes) -> "NumberTokenizer":
        number = content.split()[0].decode() if content.split() else ""
        if not number.isdecimal():
            raise ValueError("not the mark of a number tokenizer")
        return cls(int(number))


class Numbers(TokenizerKind):
    """Text is token ids written as numbers, for a model that came without a tokenizer."""

    kind: Literal["numbers"] = "numbers"

    vocab_size: int = Field(ge=1)
    """Number of tokens."""

    @property
    def known_vocab_size(self) -> int:
        return self.vocab_size

    def build(self, texts: Iterable[str]) -> NumberTokenizer:
        """Return the tokenizer; `texts` is not read."""
        return NumberTokenizer(self.vocab_size)
