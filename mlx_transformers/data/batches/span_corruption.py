"""Span corruption: the source lacks some spans of the text, the target lists them (T5)."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.errors import DataError
from ..example_rows import Make, Row, Widths
from ..kinds import Begin, Columns
from ..noise.span_corruption import corrupted, lengths_for, span_counts
from ..tokenizers.tokenizer import Tokenizer
from .noisy_windows import NoisyWindows
from .pairs import seq2seq_row


class SpanCorruption(NoisyWindows):
    """Each removed span becomes a sentinel, and the target lists the removed spans in order, each
    after its sentinel: Raffel et al. 2020 (T5), section 3.1.4.

    Windows are as long as fits `train.seq_len` columns of source; the length of the target follows.
    Arrays as for `pairs`.
    """

    kind: Literal["span_corruption"] = "span_corruption"
    gives: ClassVar[tuple[str, ...]] = ("source", "source_valid", "tokens", "weights")

    density: float = Field(0.15, gt=0, lt=1)
    """Part of the tokens that is removed."""
    mean_span: float = Field(3.0, ge=1)
    """Mean length of a span in tokens."""
    sentinels: int = Field(100, ge=1, le=100)
    """Number of sentinels in the vocabulary."""
    start: Begin = "start"
    """The control token that the target begins with; T5 uses "pad"."""

    @property
    def begins(self) -> Begin:
        return self.start

    def columns(self, seq_len: int) -> Columns:
        _, target = lengths_for(seq_len, self.density, self.mean_span)
        return Columns(target, target, seq_len, masked=True)

    def controls(self) -> tuple[str, ...]:
        names = (f"sentinel_{n}" for n in range(self.sentinels))
        return tuple(dict.fromkeys((self.start, "end", *names)))

    def maker(self, tokenizer: Tokenizer, seq_len: int) -> tuple[int, Make[np.ndarray], Widths]:
        length, target_len = lengths_for(seq_len, self.density, self.mean_span)
        _, spans = span_counts(length, self.density, self.mean_span)
        if spans > self.sentinels:
            raise DataError(
                f"Rows of train.seq_len = {seq_len} have {spans} spans, and data.batch.sentinels "
                f"is {self.sentinels}: take shorter rows, longer spans or more sentinels."
            )
        sentinels = [tokenizer.control(f"sentinel_{n}") for n in range(self.sentinels)]
        start, end = tokenizer.control(self.start), tokenizer.control("end")

        def make(text: np.ndarray, rng: np.random.Generator) -> Row:
            source, target = corrupted(text, self.density, self.mean_span, sentinels, rng)
            return seq2seq_row(source, target, start, end)

        columns = {"source": seq_len, "source_valid": seq_len, "tokens": target_len + 1}
        widths = {name: [width] for name, width in columns.items()}
        return length, make, widths | {"weights": [target_len]}
