"""Denoising: the source is corrupted text, the target the original (BART)."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ..example_rows import Make, Row, Widths
from ..kinds import Begin, Columns
from ..noise.denoising import (
    document_rotation,
    sentence_permutation,
    text_infilling,
    token_deletion,
    token_masking,
)
from ..noise.words import sentence_table, sentences
from ..tokenizers.tokenizer import Tokenizer
from .noisy_windows import NoisyWindows
from .pairs import seq2seq_row, seq2seq_widths


class Denoise(NoisyWindows):
    """Any of BART's five noise functions, in the order of the fields: Lewis et al. 2020, section
    2.2. BART-large permutes sentences and infills 30% of the tokens (section 4).

    Arrays as for `pairs`; the target is the complete window.
    """

    kind: Literal["denoise"] = "denoise"
    gives: ClassVar[tuple[str, ...]] = ("source", "source_valid", "tokens", "weights")

    permute: bool = False
    """Shuffle the sentences."""
    rotate: bool = False
    """Rotate the text to begin at a random token."""
    infill: float = Field(0.0, ge=0, lt=1)
    """Part of the tokens in spans that are each replaced by one mask token."""
    mean_span: float = Field(3.0, gt=0)
    """Mean length of these spans in tokens (Poisson)."""
    delete: float = Field(0.0, ge=0, lt=1)
    """Part of the tokens that is deleted."""
    mask: float = Field(0.0, ge=0, lt=1)
    """Part of the tokens that is replaced by the mask token."""
    start: Begin = "start"
    """The control token that the target begins with; BART uses "end"."""

    @model_validator(mode="after")
    def _some_noise(self) -> "Denoise":
        if not (self.permute or self.rotate or self.infill or self.delete or self.mask):
            raise ValueError(
                "data.batch has no noise: give permute, rotate, infill, delete or mask."
            )
        return self

    @property
    def begins(self) -> Begin:
        return self.start

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len, seq_len, masked=True)

    def controls(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.start, "end", "mask")))

    def maker(self, tokenizer: Tokenizer, seq_len: int) -> tuple[int, Make[np.ndarray], Widths]:
        start, end = tokenizer.control(self.start), tokenizer.control("end")
        mask, ends = tokenizer.control("mask"), sentence_table(tokenizer)

        def make(text: np.ndarray, rng: np.random.Generator) -> Row:
            noisy = self._noisy(text, mask, ends, rng)[: seq_len - 1]
            return seq2seq_row(noisy, text, start, end)

        return seq_len - 1, make, seq2seq_widths([seq_len], seq_len)

    def _noisy(
        self, text: np.ndarray, mask: int, ends: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        if self.permute:
            text = np.concatenate(sentence_permutation(sentences(text, ends), rng))
        if self.rotate:
            text = document_rotation(text, rng)
        if self.infill:
            text = text_infilling(text, self.infill, self.mean_span, mask, rng)
        if self.delete:
            text = token_deletion(text, self.delete, rng)
        return token_masking(text, self.mask, mask, rng) if self.mask else text
