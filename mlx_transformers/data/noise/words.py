"""Word and sentence boundaries in tokens, from the text of each token."""

import numpy as np

from ..tokenizers.tokenizer import Tokenizer


def word_tables(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Return two tables over the vocabulary, bool [V]: whether a token begins a word (its text
    begins with a space or punctuation), and whether the next token does (its text ends with one and
    is not only spaces)."""
    surfaces = [tokenizer.surface(token) for token in range(tokenizer.vocab_size)]
    before = np.array([not text or not _in_word(text[0]) for text in surfaces])
    after = np.array([not text or not _in_word(text[-1]) for text in surfaces])
    after &= np.array([not text or bool(text.strip(" ")) for text in surfaces])
    return before, after


def word_ids(tokens: np.ndarray, tables: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the word that each token [n] belongs to, from 0: int [n].

    A word is a token and the tokens that continue it. Punctuation is a word of its own; a space
    belongs to the word that follows.
    """
    before, after = tables
    starts = before[tokens].copy()
    starts[1:] |= after[tokens[:-1]]
    starts[:1] = True
    return np.cumsum(starts) - 1


def sentence_table(tokenizer: Tokenizer) -> np.ndarray:
    """Return whether each token ends a sentence, bool [V]: it has a full stop, question mark,
    exclamation mark or line end, followed only by quotes, brackets and spaces."""
    surfaces = [tokenizer.surface(token) for token in range(tokenizer.vocab_size)]
    return np.array([_ends_sentence(text) for text in surfaces])


def sentences(tokens: np.ndarray, table: np.ndarray) -> list[np.ndarray]:
    """Cut tokens [n] after each run of tokens that end a sentence; the last part may be
    unfinished."""
    ends = table[tokens]
    cuts = np.flatnonzero(ends[:-1] & ~ends[1:]) + 1
    return np.split(tokens, cuts)


def _in_word(character: str) -> bool:
    # A character split over several tokens decodes to U+FFFD in each.
    return character.isalnum() or character in "'_\ufffd"


def _ends_sentence(text: str) -> bool:
    bare = text.rstrip(" \t\"')]\u2019\u201d")
    return bool(bare) and bare[-1] in ".!?\n\u3002\uff01\uff1f"
