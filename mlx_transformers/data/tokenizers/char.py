"""The character tokenizer: its vocabulary is the characters of the text."""

import json
from collections.abc import Iterable
from typing import ClassVar, Literal

import numpy as np

from ...core.errors import DataError
from .tokenizer import Tokenizer, TokenizerKind


class CharTokenizer(Tokenizer):
    """Token i is the i-th character of a sorted list.

    Documents follow each other without a separator, as in nanoGPT, so loss per token is loss per
    character.
    """

    kind = "char"
    payload = "characters.json"

    def __init__(self, characters: list[str]) -> None:
        self.characters = characters
        self.vocab_size = len(characters)
        self._codes = np.array([ord(character) for character in characters], dtype=np.uint32)

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """Return the tokenizer of all characters in `texts`.

        Raises:
            DataError: fewer than two different characters.
        """
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        if len(characters) < 2:
            have = f"only the character {min(characters)!r}" if characters else "no character"
            raise DataError(
                f"The text has {have}: a vocabulary of {len(characters)} has nothing to predict. "
                "Give another text (data.path, data.corpus)."
            )
        return cls(sorted(characters))

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self.encode_array(text).tolist()
        return tokens

    def encode_array(self, text: str) -> np.ndarray:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        tokens = np.searchsorted(self._codes, codes)
        known = self._codes[np.minimum(tokens, self.vocab_size - 1)] == codes
        if not known.all():
            place = int(np.argmin(known))
            raise DataError(
                f"The character {text[place]!r} (at {place}) is not among the {self.vocab_size} "
                "of this char tokenizer, which are those of the text it was made from. Leave it "
                "out; a byte or sentencepiece tokenizer can write any text."
            )
        return tokens

    def token_bytes(self, token: int) -> bytes:
        return self.characters[token].encode()

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join([self.characters[int(token)] for token in tokens])

    def serialize(self) -> bytes:
        return (json.dumps(self.characters) + "\n").encode()

    @classmethod
    def read(cls, content: bytes) -> "CharTokenizer":
        characters = json.loads(content)
        if not isinstance(characters, list) or not all(
            isinstance(character, str) and len(character) == 1 for character in characters
        ):
            raise ValueError("not a list of characters")
        return cls(characters)


class Char(TokenizerKind):
    """One token per character. The vocabulary is every character of the text, validation included;
    another text may have characters that it lacks."""

    kind: Literal["char"] = "char"
    trained_on: ClassVar[Literal["nothing", "train", "all"]] = "all"

    def build(self, texts: Iterable[str]) -> CharTokenizer:
        """Return the tokenizer of the characters in `texts`."""
        return CharTokenizer.train(texts)
