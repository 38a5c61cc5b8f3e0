"""Skip-gram: one word is given, and each word of its window is distinguished from noise."""

from typing import Literal

import numpy as np

from ..noise.contexts import neighbours
from .word_windows import WordWindows


class SkipGram(WordWindows):
    """Pairs of a word and one of its neighbours, of which the second is distinguished from words
    drawn at random: Mikolov et al. 2013a, section 3.2.

    `tokens` and `valid` [B, N, 1], `targets` [B, N], `negatives` [B, N, K] and `weights` [B, N]
    with N = 2 · window · T, the most pairs that a row can have.
    """

    kind: Literal["skip_gram"] = "skip_gram"

    def sizes(self, seq_len: int) -> tuple[int, int]:
        return 2 * self.window * seq_len, 1

    @property
    def filled(self) -> float:
        return (self.window + 1) / (2 * self.window)  # of windows drawn from 1 to the largest

    def examples(
        self, text: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places, inside = neighbours(len(text), self.window, rng)
        rows, which = np.nonzero(inside)
        centres = text[rows][:, None]
        return centres, np.ones(centres.shape, bool), text[places[rows, which]]
