"""Timing in turns: what is compared is measured alternately, so that drift hits all alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx


@dataclass(frozen=True)
class Spread:
    """A quantity measured repeatedly: its median, and the quartiles as its spread."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one value or more; of two or less, the quartiles are the extremes."""
        if len(values) < 3:
            return cls(statistics.median(values), min(values), max(values))
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def times(self, factor: float) -> "Spread":
        """In another unit."""
        return Spread(factor * self.median, factor * self.low, factor * self.high)


def seconds(f: Callable[[], Any]) -> float:
    """What `f()` takes until every array that it returns is computed."""
    started = time.perf_counter()
    mx.eval(f())
    return time.perf_counter() - started


def in_turns(tasks: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every task in every round, after one untimed round that compiles."""
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            took = seconds(task)
            if number:
                found[name].append(took)
    return found
