"""Continuous bag of words: the words around a position are given, and its word is
distinguished from noise."""

from typing import Literal

import numpy as np

from ..noise.contexts import neighbours
from .word_windows import WordWindows


class Cbow(WordWindows):
    """Windows without their middle word, which is distinguished from words drawn at random:
    Mikolov et al. 2013a, section 3.1.

    `tokens` and `valid` [B, T, 2 · window], `targets` [B, T], `negatives` [B, T, K] and `weights`
    [B, T].
    """

    kind: Literal["cbow"] = "cbow"

    def sizes(self, seq_len: int) -> tuple[int, int]:
        return seq_len, 2 * self.window

    def examples(
        self, text: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places, inside = neighbours(len(text), self.window, rng)
        some = inside.any(axis=1)
        around = text[places[some]] if len(text) else np.zeros((0, places.shape[1]), np.int32)
        return around, inside[some], text[some]
