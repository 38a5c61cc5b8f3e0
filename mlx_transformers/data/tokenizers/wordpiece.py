"""WordPiece (Schuster & Nakajima 2012; Devlin et al. 2018, section 3), by tokenizers."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field

from .hf import HfTokenizer
from .hf_library import tokenizers_library, training_text
from .tokenizer import TokenizerKind

CONTROLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PREFIX = "##"
"""Marks a subword that continues a word."""
LONGEST_ALPHABET = 1000
"""Characters in the vocabulary, the most frequent ones; others are unknown (BERT's code)."""


class WordPiece(TokenizerKind):
    """BERT's subwords, trained on the text: words and punctuation are cut apart as BERT does, then
    into the longest known subwords. Spaces, rare characters and (with `lowercase`) case and accents
    are lost. The same text gives the same tokenizer."""

    kind: Literal["wordpiece"] = "wordpiece"
    trained_on: ClassVar[Literal["nothing", "train", "all"]] = "train"

    vocab_size: int = Field(default=8192, ge=100)
    """Number of tokens, the five control tokens included; fewer for a short text."""

    lowercase: bool = True
    """Remove case and accents, as BERT's uncased models do."""

    sample_bytes: int = Field(default=10_000_000, ge=1000)
    """How much text is used for training, drawn evenly from all of it."""

    @property
    def known_vocab_size(self) -> int:
        return self.vocab_size

    def build(self, texts: Iterable[str]) -> HfTokenizer:
        """Return the tokenizer trained on `texts`.

        Raises:
            DataError: there is no text, or the tokenizers package is not installed.
        """
        library = tokenizers_library("A WordPiece tokenizer")
        tokenizer = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=self.lowercase)
        tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = library.decoders.WordPiece(prefix=PREFIX)
        chunks = training_text(texts, self.sample_bytes)
        alphabet = _alphabet(map(tokenizer.normalizer.normalize_str, chunks))
        # The library numbers continuing characters in the order of a hash table; named first, they
        # have an order of their own, and the same text gives the same merges.
        first = [*CONTROLS, *(PREFIX + character for character in alphabet)]
        trainer = library.trainers.WordPieceTrainer(
            vocab_size=max(self.vocab_size, len(first) + len(alphabet)),
            min_frequency=2,
            special_tokens=first,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            continuing_subword_prefix=PREFIX,
            show_progress=False,
        )
        tokenizer.train_from_iterator(chunks, trainer)
        form = json.loads(tokenizer.to_str())
        controls = [token for token in form["added_tokens"] if token["content"] in CONTROLS]
        return HfTokenizer(json.dumps(form | {"added_tokens": controls}).encode())


def _alphabet(texts: Iterable[str]) -> list[str]:
    """Return the most frequent characters, sorted."""
    counts = Counter(character for text in texts for character in text if not character.isspace())
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    return sorted(by_frequency[:LONGEST_ALPHABET])
