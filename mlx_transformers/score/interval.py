"""How far a metric could be off for the few examples that it was measured on.

    b times:  draw n of the n examples, with replacement; measure        interval: their percentiles

The percentile bootstrap: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3;
for BLEU, Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DRAWS = 1000
"""Times that the examples are drawn anew."""
COVERS = 0.95
"""Share of the draws that lie within the interval."""

Measure = Callable[[np.ndarray], float]
"""A metric of the examples of these numbers, which may repeat."""


@dataclass(frozen=True)
class Score:
    """A metric, and the interval in which 95 of 100 draws of the examples have it."""

    name: str
    value: float
    low: float
    high: float


def scored(name: str, n: int, measure: Measure, draws: int = DRAWS) -> Score:
    """A metric of n examples with its interval, the same each time."""
    rng = np.random.default_rng(0)
    resampled = [measure(rng.integers(0, n, n)) for _ in range(draws)]
    low, high = np.quantile(resampled, [(1 - COVERS) / 2, (1 + COVERS) / 2])
    return Score(name, float(measure(np.arange(n))), float(low), float(high))


def mean(name: str, each: np.ndarray) -> Score:
    """The mean of what each example has, `[n]`."""
    return scored(name, len(each), lambda i: float(each[i].mean()))
