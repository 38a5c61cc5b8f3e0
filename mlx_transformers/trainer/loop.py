"""The training loop: batches in, compiled steps, and moments that watch.

It holds no mathematics and reads nothing back from the device: metrics stay lazy until a moment
asks for them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import mlx.core as mx

from ..core.errors import RunError
from ..runs.progress import Progress
from .config import Train
from .signals import StopSignals
from .step import Step
from .traced import compiling

Metrics = dict[str, mx.array]


class Feed(Protocol):
    """An endless source of batches that knows where it stands and how fast it is."""

    def __next__(self) -> dict[str, Any]: ...

    @property
    def cursor(self) -> dict[str, Any]: ...

    @property
    def tokens_per_s(self) -> float: ...

    @property
    def shapes(self) -> int: ...


def arrays(batch: dict[str, Any]) -> dict[str, mx.array]:
    """A batch of NumPy arrays on the device, in one order of names: another is another trace."""
    return {name: mx.array(batch[name]) for name in sorted(batch)}


class Trainer:
    """Runs `step` on `feed` until the recipe's end, a signal, or a moment that says stop.

    Attributes:
        reason: why the run is ending; None while it goes on. Moments after the one that set it
            still run, so the last (saving) sees it.
        progress: how far the run has come.
    """

    def __init__(
        self,
        step: Step,
        feed: Feed,
        config: Train,
        moments: Sequence[Callable[["Trainer", Metrics], None]],
        progress: Progress,
    ) -> None:
        self.step = step
        self.feed = feed
        self.config = config
        self.moments = moments
        self.progress = progress
        self.reason: str | None = None
        self.tokens_per_step = config.batch_size * config.accumulate * config.seq_len
        self._most_traces = step.declared_traces * feed.shapes if compiling() else None

    def run(self) -> str:
        """Train to the end; returns the reason of the end."""
        previous: Metrics | None = None
        with StopSignals() as stop:
            while self.reason is None:
                metrics = self.step(self._microbatches(), self.progress.step)
                mx.async_eval(metrics, self.step.state)
                if previous is not None:
                    mx.eval(previous)  # One step ahead of the device, never more.
                previous = metrics
                self._advance(stop)
                for moment in self.moments:
                    moment(self, metrics)
        return self.reason

    def _microbatches(self) -> list[dict[str, mx.array]]:
        return [arrays(next(self.feed)) for _ in range(self.config.accumulate)]

    def _advance(self, stop: StopSignals) -> None:
        self.progress.step += 1
        self.progress.tokens += self.tokens_per_step
        self.progress.cursor = self.feed.cursor
        name = self.step.train_state.ranks.stop(stop.name)
        if self.progress.step >= self.config.steps:
            self.reason = "finished"
        elif name is not None:
            self.reason = f"stopped by {name}"
        if self._most_traces is not None and self.step.traces > self._most_traces:
            raise RunError(
                f"The training step was traced {self.step.traces} times, but batches of "
                f"{self.feed.shapes} declared shapes need {self._most_traces}: the data source "
                "yields rows of changing shape or dtype."
            )
