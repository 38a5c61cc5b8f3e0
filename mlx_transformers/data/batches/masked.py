"""Masked rows: running text in which some tokens are masked and predicted (MLM)."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ...recipe.config import Config
from ..example_rows import Make, Row, Widths
from ..kinds import Columns
from ..noise.masking import budget, chosen_spans, chosen_tokens, chosen_words, replaced
from ..noise.words import word_tables
from ..tokenizers.tokenizer import Tokenizer
from .noisy_windows import NoisyWindows, encoder_widths, with_cls_sep


class Masking(Config):
    """Choice of the predicted tokens and of their replacements: Devlin et al. 2018, section 3.1."""

    share: float = Field(0.15, gt=0, lt=1)
    """Part of the tokens that is predicted."""
    unit: Literal["token", "word", "span"] = "token"
    """The unit of masking: single tokens, whole words (BERT's code of May 2019), or spans of words
    (SpanBERT: Joshi et al. 2020, section 3.1)."""
    mask_share: float = Field(0.8, ge=0, le=1)
    """Part of the predicted tokens that becomes the mask token."""
    random_share: float = Field(0.1, ge=0, le=1)
    """Part of the predicted tokens that becomes a random token; the rest stays unchanged."""

    @model_validator(mode="after")
    def _shares(self) -> "Masking":
        if self.mask_share + self.random_share > 1:
            raise ValueError("masking.mask_share and random_share sum to more than 1.")
        return self


class Masker:
    """Masking with one vocabulary: `(tokens [n], rng) -> (input [n], weights [n])`."""

    def __init__(self, config: Masking, tokenizer: Tokenizer) -> None:
        self.config, self.mask = config, tokenizer.control("mask")
        self.vocab_size = tokenizer.text_vocab_size
        needed = config.unit != "token"
        self.tables = word_tables(tokenizer) if needed else (np.zeros(0), np.zeros(0))

    def __call__(
        self, tokens: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        share, unit = self.config.share, self.config.unit
        if unit == "token":
            chosen = chosen_tokens(len(tokens), share, rng)
        elif unit == "word":
            chosen = chosen_words(tokens, self.tables, share, rng)
        else:
            chosen = chosen_spans(tokens, self.tables, share, rng)
        inputs = replaced(
            tokens,
            chosen,
            self.mask,
            self.vocab_size,
            rng,
            mask_share=self.config.mask_share,
            random_share=self.config.random_share,
            together=unit == "span",
        )
        return inputs, chosen.astype(np.float32)


class Masked(NoisyWindows):
    """Rows `[CLS] text [SEP]` with masked tokens: Devlin et al. 2018, section 3.1, without the
    next sentence (Liu et al. 2019, RoBERTa, section 4.2: "full sentences").

    `tokens`, `targets`, `weights` (1 where predicted) and `valid`, all [B, T]; `places` [B, P], the
    positions of the predictions, padded with 0, where nothing is masked.
    """

    kind: Literal["mlm"] = "mlm"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "targets", "weights", "valid", "places")

    masking: Masking = Masking()
    """Rule that chooses the masked tokens."""
    copies: int | None = Field(None, ge=1)
    """Static masking: cycle through this many fixed masks of a window (BERT's data had 10). Unset:
    dynamic masking, a new mask each time (RoBERTa, section 4.1)."""

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, budget(seq_len - 2, self.masking.share), masked=True)

    def controls(self) -> tuple[str, ...]:
        return ("cls", "sep", "mask")

    def fixed_copies(self) -> int | None:
        return self.copies

    def maker(self, tokenizer: Tokenizer, seq_len: int) -> tuple[int, Make[np.ndarray], Widths]:
        masker = Masker(self.masking, tokenizer)

        def make(text: np.ndarray, rng: np.random.Generator) -> Row:
            inputs, chosen = masker(text, rng)
            row = with_cls_sep(tokenizer, inputs)
            targets = with_cls_sep(tokenizer, text)["tokens"]
            weights = np.pad(chosen, 1)
            return {k: row[k] for k in ("tokens", "valid")} | {
                "targets": targets,
                "weights": weights,
                "places": np.flatnonzero(weights),
            }

        widths = encoder_widths(seq_len, "targets", "weights")
        return seq_len - 2, make, widths | {"places": [budget(seq_len - 2, self.masking.share)]}
