"""Words and sentences in tokens, told by the text of each token."""

import numpy as np

from ..tokenizers.tokenizer import Tokenizer


def word_tables(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Two tables over the vocabulary, bool [V]: whether a token begins a word, whatever is before
    it (its text begins with a space or a mark); and whether the token after it does (its text
    ends with one, and is more than spaces)."""
    surfaces = [tokenizer.surface(token) for token in range(tokenizer.vocab_size)]
    before = np.array([not text or not _in_word(text[0]) for text in surfaces])
    after = np.array([not text or not _in_word(text[-1]) for text in surfaces])
    after &= np.array([not text or bool(text.strip(" ")) for text in surfaces])
    return before, after


def word_ids(tokens: np.ndarray, tables: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The word that each token [n] belongs to, from 0: int [n].

    A word is a token and those that continue it; a mark is a word, a space goes with what follows.
    """
    before, after = tables
    starts = before[tokens].copy()
    starts[1:] |= after[tokens[:-1]]
    starts[:1] = True
    return np.cumsum(starts) - 1


def sentence_table(tokenizer: Tokenizer) -> np.ndarray:
    """Whether a token ends a sentence, bool [V]: it has a full stop, a question or an exclamation
    mark, or a line end, and nothing but quotes, brackets and spaces after it."""
    surfaces = [tokenizer.surface(token) for token in range(tokenizer.vocab_size)]
    return np.array([_ends_sentence(text) for text in surfaces])


def sentences(tokens: np.ndarray, table: np.ndarray) -> list[np.ndarray]:
    """Tokens [n] cut after each run of tokens that end a sentence; the last may be unfinished."""
    ends = table[tokens]
    cuts = np.flatnonzero(ends[:-1] & ~ends[1:]) + 1
    return np.split(tokens, cuts)


def _in_word(character: str) -> bool:
    # A character in several tokens has no text of its own in any of them.
    return character.isalnum() or character in "'_\ufffd"


def _ends_sentence(text: str) -> bool:
    bare = text.rstrip(" \t\"')]\u2019\u201d")
    return bool(bare) and bare[-1] in ".!?\n\u3002\uff01\uff1f"
