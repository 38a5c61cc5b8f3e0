"""The word tokenizer: its vocabulary is the most frequent words between white space."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field

from ...core.errors import DataError
from .tokenizer import Tokenizer, TokenizerKind

UNKNOWN = "<unk>"


class WordTokenizer(Tokenizer):
    """Token i is the i-th word of a list, token 0 any other word.

    White space between words decodes to one space.
    """

    kind = "words"
    payload = "words.json"

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.vocab_size = len(words)
        self._ids = {word: i for i, word in enumerate(words)}

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(word, 0) for word in text.split()]

    def token_bytes(self, token: int) -> bytes:
        return f" {self.words[token]}".encode()

    def decode(self, tokens: Iterable[int]) -> str:
        return " ".join(self.words[int(token)] for token in tokens)

    def serialize(self) -> bytes:
        return (json.dumps(self.words, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, content: bytes) -> "WordTokenizer":
        words = json.loads(content)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("not a list of words")
        return cls(words)


class Words(TokenizerKind):
    """One token per word between white space. Words that aren't in the vocabulary become
    `<unk>`."""

    kind: Literal["words"] = "words"
    trained_on: ClassVar[Literal["nothing", "train", "all"]] = "train"
    vocab_size: int | None = Field(None, ge=3)
    """The most words, `<unk>` included: the most frequent ones. Unset: all."""
    min_count: int = Field(1, ge=1)
    """Occurrences that a word of the vocabulary has at least."""

    @property
    def known_vocab_size(self) -> int | None:
        return self.vocab_size

    def build(self, texts: Iterable[str]) -> WordTokenizer:
        """Return the tokenizer of the words in `texts`, most frequent first.

        Raises:
            DataError: fewer than two different words are frequent enough.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text.split())
        counts.pop(UNKNOWN, None)
        often = [word for word, count in counts.items() if count >= self.min_count]
        often.sort(key=lambda word: (-counts[word], word))
        if len(often) < 2:
            raise DataError(
                f"The text has {len(often)} words that occur {self.min_count} times or more, and "
                "a vocabulary needs two. Give more text (data.path, data.corpus) or a smaller "
                "data.tokenizer.min_count."
            )
        return WordTokenizer([UNKNOWN, *often][: self.vocab_size])
