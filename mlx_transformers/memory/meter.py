"""Measures the peak memory of a run and records it beside its prediction."""

import mlx.core as mx

from .record import record_peak

STEADY = 3
"""Step after which the peak is read: compilation is over, and no evaluation has run."""


class Meter:
    """A callback that reads the peak MLX memory after the first steps, before any evaluation.

    Args:
        predicted: the plan's peak in bytes before correction.
        factor: the correction of the printed plan.
        free_of: the step of the first evaluation or sample.
        key: that of its records (`record.run_key`).
    """

    def __init__(self, predicted: float, factor: float, free_of: int, key: str) -> None:
        self.key = key
        self.predicted = predicted
        self.factor = factor
        self.when = STEADY if free_of > STEADY else 0
        self.steps = 0
        self.measured: int | None = None

    def __call__(self, trainer: object, metrics: dict[str, mx.array]) -> None:
        self.steps += 1
        if self.steps == self.when:
            mx.eval(metrics)
            self.measured = mx.get_peak_memory()

    def record(self) -> str | None:
        """Record the measured peak and return it in a sentence; None if the run was too short."""
        if self.measured is None:
            return None
        record_peak(self.key, self.predicted, self.measured)
        planned, unit = self.predicted * self.factor, 2**20
        return (
            f"Memory of a step: {self.measured / unit:,.0f} MiB at the peak, "
            f"{planned / unit:,.0f} MiB planned ({planned / self.measured - 1:+.1%})."
        )
