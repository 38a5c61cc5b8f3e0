"""Interleaved timing: compared tasks alternate, so that drift affects all of them equally."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise one value or more; of one or two, the quartiles are the extremes."""
        if len(values) < 3:
            return cls(statistics.median(values), min(values), max(values))
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def times(self, factor: float) -> "Spread":
        """The spread in another unit: all values times `factor`."""
        return Spread(factor * self.median, factor * self.low, factor * self.high)


def seconds(f: Callable[[], Any]) -> float:
    """Time `f()` until all arrays that it returns are evaluated."""
    started = time.perf_counter()
    mx.eval(f())
    return time.perf_counter() - started


def in_turns(tasks: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time every task in every round, after one untimed round that compiles; seconds by task."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            took = seconds(task)
            if number:
                times[name].append(took)
    return times
