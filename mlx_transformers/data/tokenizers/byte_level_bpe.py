"""Byte-level BPE (Radford et al. 2019, GPT-2, section 2.2), by the tokenizers library."""

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field

from .hf import HfTokenizer
from .hf_library import tokenizers_library, training_text
from .tokenizer import TokenizerKind

CONTROLS = {
    "gpt2": ["<|endoftext|>"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
}
"""Control tokens of the published vocabularies; they come first."""


class ByteLevelBpe(TokenizerKind):
    """Byte-pair encoding of bytes, within words cut by GPT-2's pattern, trained on the text. It is
    lossless and has no unknown characters. The same text gives the same tokenizer."""

    kind: Literal["byte_level_bpe"] = "byte_level_bpe"
    trained_on: ClassVar[Literal["nothing", "train", "all"]] = "train"

    vocab_size: int = Field(default=8192, ge=300)
    """Number of tokens, the 256 bytes and the control tokens included; fewer for a short text."""

    controls: Literal["gpt2", "roberta"] = "gpt2"
    """The control tokens: GPT-2's end of text, or RoBERTa's five."""

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
        library = tokenizers_library("A byte-level BPE tokenizer")
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=2,
            special_tokens=CONTROLS[self.controls],
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(training_text(texts, self.sample_bytes), trainer)
        return HfTokenizer(tokenizer.to_str().encode())
