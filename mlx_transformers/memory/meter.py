"""What a run took against what was planned, and remembering it for later plans."""

from typing import Any

import mlx.core as mx

from .record import device_key, remember

STEADY = 3
"""Steps after which the peak is read: the first compiles, evaluations have not come in between."""


class Meter:
    """A callback that reads MLX's peak after the first steps, before anything else runs.

    Args:
        predicted: the plan's peak in bytes before any correction.
        factor: the correction that the plan was told with.
        free_of: steps before this one are steps alone: the first evaluation or sample.
    """

    def __init__(self, predicted: float, factor: float, free_of: int) -> None:
        self.predicted = predicted
        self.factor = factor
        self.when = STEADY if free_of > STEADY else 0
        self.steps = 0
        self.measured: int | None = None

    def __call__(self, trainer: Any, metrics: dict[str, mx.array]) -> None:
        self.steps += 1
        if self.steps == self.when:
            mx.eval(metrics)
            self.measured = mx.get_peak_memory()

    def remember(self) -> str | None:
        """Keep what was measured, and say it in a sentence; None if the run was too short."""
        if self.measured is None:
            return None
        remember(device_key(), self.predicted, self.measured)
        planned, unit = self.predicted * self.factor, 2**20
        return (
            f"Memory of a step: {self.measured / unit:,.0f} MiB at the peak, "
            f"{planned / unit:,.0f} MiB planned ({planned / self.measured - 1:+.1%})."
        )
