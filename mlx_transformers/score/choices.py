"""Multiple choice: the answer that a model finds likeliest.

    acc: argmax log p(choice | question)        acc_norm: the same / number of characters

The metrics of the lm-evaluation-harness (Gao et al.); ties go to the first choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Choices:
    """A question's choices as a model scored them.

    Attributes:
        texts: the choices.
        logps: log p of each given the question, in nats.
        gold: the numbers of the right ones.
        greedy: whether greedy decoding gives the choice; empty where it isn't known.
        alone: log p of each without the question; empty where it isn't known.
    """

    texts: Sequence[str]
    logps: np.ndarray
    gold: tuple[int, ...]
    greedy: Sequence[bool] = ()
    alone: np.ndarray | None = None

    def marks(self) -> dict[str, float]:
        """1 or 0 by metric, of those that can be computed."""
        characters = np.array([float(len(text)) for text in self.texts])
        n_bytes = np.array([float(len(text.encode())) for text in self.texts])
        marks = {
            "acc": self._right(self.logps),
            "acc_norm": self._right(_per(self.logps, characters)),
            "acc_bytes": self._right(_per(self.logps, n_bytes)),
        }
        if self.alone is not None:
            marks["acc_mutual_info"] = self._right(self.logps - self.alone)
        if self.greedy:
            marks["exact_match"] = float(any(self.greedy[i] for i in self.gold if i >= 0))
        return marks

    def brier(self) -> float:
        """The squared distance of the choices' probabilities to the right one-hot row."""
        weights = np.exp(self.logps - self.logps.max())
        onehot = np.zeros(len(self.logps))
        onehot[list(self.gold)] = 1
        return float(((weights / weights.sum() - onehot) ** 2).sum())

    def _right(self, scores: np.ndarray) -> float:
        return float(int(np.argmax(scores)) in self.gold)


def _per(logps: np.ndarray, length: np.ndarray) -> np.ndarray:
    return np.asarray(logps / np.maximum(length, 1))


def standard_error(each: Sequence[float]) -> float:
    """The standard error of a mean: the sample's standard deviation / √n; 0 for a single value."""
    if len(each) < 2:
        return 0.0
    return float(np.std(np.asarray(each, dtype=np.float64), ddof=1) / np.sqrt(len(each)))
