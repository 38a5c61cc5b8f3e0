"""Prefix rows: a beginning that is seen in both directions, and its continuation."""

from typing import Any, ClassVar, Literal

import numpy as np

from ..batching import Columns
from ..noise.prefix import prefix_length
from ..row_by_row import Make, Widths
from ..tokenizers.tokenizer import Tokenizer
from .noised import Noised


class Prefix(Noised):
    """Running text cut at a random place; what follows it is predicted: Liu et al. 2018, section
    4.2.3; Raffel et al. 2020, section 3.2.1.

    `tokens` [B, T + 1], `prefix` [B] (tokens of the beginning), `weights` [B, T], 1 where what is
    predicted comes after the beginning.
    """

    kind: Literal["prefix"] = "prefix"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "prefix", "weights")

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len, masked=True)

    def maker(self, tokenizer: Tokenizer, seq_len: int) -> tuple[int, Make, Widths]:
        def make(text: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
            prefix = prefix_length(len(text), rng)
            weights = (np.arange(1, len(text)) >= prefix).astype(np.float32)
            return {"tokens": text, "prefix": prefix, "weights": weights}

        return seq_len + 1, make, {"tokens": [seq_len + 1], "weights": [seq_len]}
