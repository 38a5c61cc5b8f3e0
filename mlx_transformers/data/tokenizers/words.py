"""The word tokenizer: its vocabulary is the most frequent words between white space."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.errors import DataError
from .tokenizer import Tokenizer, TokenizerKind

UNKNOWN = "<unk>"
LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
"""A run of letters, with apostrophes inside it."""


WORD = re.compile(r"\S+")


def split_words(text: str, letters: bool) -> list[str]:
    """Return the words between white space; with `letters`, runs of letters in lower case."""
    return LETTERS.findall(text.lower()) if letters else WORD.findall(text)


class WordTokenizer(Tokenizer):
    """Token i is the i-th word of a list, token 0 any other word.

    White space between words decodes to one space. With `letters` words are runs of letters in
    lower case, and nothing else of a text is encoded.
    """

    kind = "words"
    payload = "words.json"
    unknown_id = 0

    def __init__(self, words: list[str], letters: bool = False) -> None:
        self.words, self.letters = words, letters
        self.vocab_size = len(words)
        self._ids = {word: i for i, word in enumerate(words)}

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(word, 0) for word in split_words(text, self.letters)]

    def encode_with_ends(self, text: str) -> tuple[list[int], np.ndarray]:
        found = LETTERS.finditer(text.lower()) if self.letters else WORD.finditer(text)
        ends = [len(text[: word.end()].encode()) for word in found]
        return self.encode(text), np.array(ends, np.int64)

    def token_bytes(self, token: int) -> bytes:
        return f" {self.words[token]}".encode()

    def decode(self, tokens: Iterable[int]) -> str:
        return " ".join(self.words[int(token)] for token in tokens)

    def serialize(self) -> bytes:
        table = {"letters": self.words} if self.letters else self.words
        return (json.dumps(table, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, content: bytes) -> "WordTokenizer":
        words = json.loads(content)
        letters = isinstance(words, dict) and words.keys() == {"letters"}
        words = words["letters"] if letters else words
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("not a list of words")
        return cls(words, letters)


class Words(TokenizerKind):
    """One token per word; words are separated by white space. Words that aren't in the
    vocabulary become `<unk>`."""

    kind: Literal["words"] = "words"
    trained_on: ClassVar[Literal["nothing", "train", "all"]] = "train"
    vocab_size: int | None = Field(None, ge=3)
    """The most words, `<unk>` included: the most frequent ones. Unset: all."""
    min_count: int = Field(1, ge=1)
    """Occurrences that a word of the vocabulary has at least."""
    letters: bool = False
    """Whether words are runs of letters in lower case, with apostrophes inside them: digits and
    punctuation are left out, and "Thee," is "thee"."""

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
            counts.update(split_words(text, self.letters))
        counts.pop(UNKNOWN, None)
        often = [word for word, count in counts.items() if count >= self.min_count]
        often.sort(key=lambda word: (-counts[word], word))
        if len(often) < 2:
            raise DataError(
                f"The text has {len(often)} words that occur {self.min_count} times or more, and "
                "a vocabulary needs two. Give more text (data.path, data.corpus) or a smaller "
                "data.tokenizer.min_count."
            )
        return WordTokenizer([UNKNOWN, *often][: self.vocab_size], self.letters)
