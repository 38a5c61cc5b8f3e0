"""Statistics over runs that differ by their seed alone: means, paired differences, intervals.

    mean ± t(n - 1) · s / √n        95 % confidence interval of n seeds (Student 1908)

A bootstrap of three or five numbers gives intervals that are far too narrow; Student's are exact
for normal errors.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042)  # fmt: skip
"""Two-sided 95 % quantiles of Student's t for 1, 2, ... 30 degrees of freedom."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and the half width of its 95 % interval; None for a single seed."""

    mean: float
    error: float | None
    n: int

    @property
    def differs_from_zero(self) -> bool | None:
        """Whether the interval leaves out 0; None for a single seed, which can't tell."""
        return None if self.error is None else abs(self.mean) > self.error


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean of one value per seed."""
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Estimate(mean, None, n)
    quantile = T_95[n - 2] if n - 2 < len(T_95) else 1.96 + 2.5 / (n - 1)
    return Estimate(mean, quantile * statistics.stdev(values) / math.sqrt(n), n)


def paired(values: Mapping[int, float], others: Mapping[int, float]) -> Estimate | None:
    """Estimate the mean of `values - others` over the seeds that both have; None if none is."""
    common = sorted(values.keys() & others.keys())
    return estimate([values[seed] - others[seed] for seed in common]) if common else None
