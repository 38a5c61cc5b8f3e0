"""The training loop: one compiled step per iteration, then the callbacks.

The loop holds no mathematics and never waits for a metric: metrics stay lazy arrays until a
callback reads them.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

import mlx.core as mx

from ..core.errors import RunError
from ..runs.progress import Progress
from .config import Train
from .signals import StopSignals
from .source import Batch, Feed
from .step import Step
from .traced import compiling

Metrics = dict[str, mx.array]


class Callback(Protocol):
    """Called after every step with the trainer and the step's lazy metrics."""

    def __call__(self, trainer: "Trainer", metrics: Metrics) -> None: ...


def arrays(batch: Batch) -> dict[str, mx.array]:
    """Convert a batch to MLX arrays, sorted by name: another order would be another trace."""
    return {name: mx.array(batch[name]) for name in sorted(batch)}


GROWS = "grows"
"""The reason for which training ends at a step where the model grows; it goes on with a new one."""

LONGEST_PAUSE = 10.0
"""Seconds; a step that compiles, or a machine that sleeps, should not stop the run for long."""


def pause(seconds: float, share: float) -> float:
    """Return the pause after a step of so many seconds that leaves it `share` of the time."""
    return min(seconds * (1.0 / share - 1.0), LONGEST_PAUSE)


class Trainer:
    """Runs `step` on `feed` until the last step, a signal, or a callback that stops the run.

    Attributes:
        reason: why the run ends; None while it continues. A callback may set it; those after it
            in the list are still called, so the last one can save.
        progress: steps, tokens and the place in the data reached so far.
        tokens_per_step: tokens of the last step.
        grows_at: step at which the model grows, and this trainer ends; None for the last stage.
    """

    def __init__(
        self,
        step: Step,
        feed: Feed,
        config: Train,
        callbacks: Sequence[Callback],
        progress: Progress,
        grows_at: int | None = None,
    ) -> None:
        self.step = step
        self.feed = feed
        self.config = config
        self.callbacks = callbacks
        self.progress = progress
        self.reason: str | None = None
        self.grows_at = grows_at
        self.tokens_per_step = 0
        self._most_traces = step.declared_traces * feed.shapes if compiling() else None

    def run(self) -> str:
        """Train to the end; returns the reason of the end."""
        previous: Metrics | None = None
        with StopSignals() as stop, ExitStack() as threads:
            while self.reason is None:
                began = time.perf_counter()
                microbatches = self._microbatches()
                if previous is None:
                    self.step.parallel.check(self.step.loss, microbatches[0])
                    threads.enter_context(self.step.parallel.single_threaded())
                metrics = self.step(microbatches, self.progress.step)
                mx.async_eval(metrics, self.step.state)
                if previous is not None:
                    mx.eval(previous)  # One step ahead of the device, never more.
                previous = metrics
                if self.config.share < 1.0:
                    mx.eval(metrics, self.step.state)
                    time.sleep(pause(time.perf_counter() - began, self.config.share))
                self._advance(stop)
                for callback in self.callbacks:
                    callback(self, metrics)
        return self.reason

    def _microbatches(self) -> list[dict[str, mx.array]]:
        count = self.config.microbatches(self.progress.step)
        length = self.config.length(self.progress.step)
        self.tokens_per_step = count * self.config.batch_size * length
        return [arrays(next(self.feed)) for _ in range(count)]

    def _advance(self, stop: StopSignals) -> None:
        """Count the step; set `reason` at the last step or after a signal to any rank.

        Raises:
            RunError: the step was traced more often than the declared shapes need.
        """
        self.progress.step += 1
        self.progress.tokens += self.tokens_per_step
        self.progress.cursor = self.feed.cursor
        self.progress.cpu_streams = self.step.parallel.streams
        name = self.step.train_state.ranks.stop(stop.name)
        if self.progress.step >= self.config.steps:
            self.reason = "finished"
        elif name is not None:
            self.reason = f"stopped by {name}"
        elif self.progress.step == self.grows_at:
            self.reason = GROWS
        if self._most_traces is not None and self.step.traces > self._most_traces:
            raise RunError(
                f"The training step was traced {self.step.traces} times, but batches of "
                f"{self.feed.shapes} declared shapes need {self._most_traces}: the data source "
                "yields rows of changing shape or dtype."
            )
