"""Prefix language modelling: a prefix with bidirectional attention, and its continuation."""

from typing import ClassVar, Literal

import numpy as np

from ..example_rows import Make, Row, Widths
from ..kinds import Columns
from ..noise.prefix import prefix_length
from ..tokenizers.tokenizer import Tokenizer
from .noisy_windows import NoisyWindows


class Prefix(NoisyWindows):
    """Running text cut at a random position; the part after it is predicted: Liu et al. 2018,
    section 4.2.3; Raffel et al. 2020, section 3.2.1.

    `tokens` [B, T + 1], `prefix` [B] (tokens of the prefix), `weights` [B, T], 1 for predictions
    after the prefix.
    """

    kind: Literal["prefix"] = "prefix"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "prefix", "weights")

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len, masked=True)

    def maker(self, tokenizer: Tokenizer, seq_len: int) -> tuple[int, Make[np.ndarray], Widths]:
        def make(text: np.ndarray, rng: np.random.Generator) -> Row:
            prefix = prefix_length(len(text), rng)
            weights = (np.arange(1, len(text)) >= prefix).astype(np.float32)
            return {"tokens": text, "prefix": prefix, "weights": weights}

        return seq_len + 1, make, {"tokens": [seq_len + 1], "weights": [seq_len]}
