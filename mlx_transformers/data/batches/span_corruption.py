"""Corrupted spans: a text without some of its spans, and a target that tells them."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.errors import DataError
from ..batching import Columns
from ..noise.span_corruption import corrupted, lengths_for, span_counts
from ..row_by_row import Make, Widths
from ..tokenizers.tokenizer import Tokenizer
from .noised import Noised
from .pairs import to_be_written


class SpanCorruption(Noised):
    """Each span that is gone leaves a sentinel, and the target tells them one after the other:
    Raffel et al. 2020 (T5), section 3.1.4.

    Windows have as many tokens as leave `train.seq_len` columns of source; the target has the
    columns that this makes. Arrays as for `pairs`.
    """

    kind: Literal["span_corruption"] = "span_corruption"
    gives: ClassVar[tuple[str, ...]] = ("source", "source_valid", "tokens", "weights")

    density: float = Field(0.15, gt=0, lt=1)
    """Part of the tokens that is gone."""
    mean_span: float = Field(3.0, ge=1)
    """Mean length of a span in tokens."""
    sentinels: int = Field(100, ge=1, le=100)
    """How many sentinels the vocabulary has."""
    start: Literal["start", "end", "pad"] = "start"
    """The control token that the target begins with: T5 takes the padding."""

    def columns(self, seq_len: int) -> Columns:
        _, target = lengths_for(seq_len, self.density, self.mean_span)
        return Columns(target, target, seq_len, masked=True)

    def controls(self) -> tuple[str, ...]:
        names = (f"sentinel_{n}" for n in range(self.sentinels))
        return tuple(dict.fromkeys((self.start, "end", *names)))

    def maker(self, tokenizer: Tokenizer, seq_len: int) -> tuple[int, Make, Widths]:
        length, target = lengths_for(seq_len, self.density, self.mean_span)
        _, spans = span_counts(length, self.density, self.mean_span)
        if spans > self.sentinels:
            raise DataError(
                f"Rows of train.seq_len = {seq_len} lose {spans} spans, and data.batch.sentinels "
                f"is {self.sentinels}: take shorter rows, longer spans or more sentinels."
            )
        sentinels = [tokenizer.control(f"sentinel_{n}") for n in range(self.sentinels)]
        start, end = tokenizer.control(self.start), tokenizer.control("end")

        def make(text: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
            source, told = corrupted(text, self.density, self.mean_span, sentinels, rng)
            return to_be_written(source, told, start, end)

        columns = {"source": seq_len, "source_valid": seq_len, "tokens": target + 1}
        widths = {name: [width] for name, width in columns.items()}
        return length, make, widths | {"weights": [target]}
