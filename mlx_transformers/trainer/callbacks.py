"""Callbacks of the training loop: reports, evaluations, samples, checkpoints.

Each is called after every step and decides by the step's number whether to act. They are called in
the order of the trainer's list: evaluations, then checkpoints, which hold their decisions, then
samples, which can't cost a checkpoint.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import mlx.core as mx

from ..core.device import GIB
from ..core.errors import MlxtError, RunError
from ..core.loss import VAL_LOSS, Best
from ..runs.background import Background
from ..runs.progress import Progress
from .config import Checkpoints, Eval, Log
from .evaluate import Evaluator
from .health import check_outcome, check_weights
from .leak import LeakWatch
from .loop import Metrics, Trainer
from .metrics import Window, metric_title
from .sinks import Record
from .source import Batch


class Sink(Protocol):
    """Receives the records of a run: the screen, the log file, TensorBoard."""

    def write(self, record: Record) -> None:
        """Write one record, which has at least `step`."""


@contextmanager
def paused(trainer: Trainer, window: Window) -> Iterator[None]:
    """Wait for the step in flight, then leave the time of the block out of the step's speed."""
    mx.eval(trainer.step.state)
    start = time.perf_counter()
    yield
    window.pause(time.perf_counter() - start)


ShowStatus = Callable[[str], None]
"""Shows what the run does beside training: "validating 3 of 40"; an empty text ends it."""


class RunWarning(UserWarning):
    """Something beside the training failed; the run goes on without it."""


class Report:
    """Writes the means since the last report to every sink, every `log.every` steps.

    `status` is called while something else than a step takes time.
    """

    def __init__(
        self,
        config: Log,
        window: Window,
        sinks: list[Sink],
        stop_nonfinite: bool,
        status: ShowStatus = lambda text: None,
    ) -> None:
        self.status = status
        self.every = config.every
        self.window = window
        self.sinks = sinks
        self.stop_nonfinite = stop_nonfinite
        self.leaks = LeakWatch()

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        self.window.add(metrics, trainer.tokens_per_step)
        if self.stop_nonfinite and not metrics["finite"].item():
            trainer.reason = (
                f"stopped: the gradient of step {trainer.progress.step} is not finite "
                "(train.nonfinite = 'stop')"
            )
        if trainer.progress.step % self.every and trainer.reason is None:
            return
        self.flush(trainer)

    def flush(self, trainer: Trainer) -> None:
        """Write a report of the steps since the last one, if there were any."""
        if not self.window.metrics:
            return
        report = self.window.read()
        trainer.progress.skipped += int(report.pop("skipped"))
        trainer.progress.seconds += report.pop("seconds")
        report["seconds_total"] = trainer.progress.seconds
        report["loader_tokens_per_s"] = trainer.feed.tokens_per_s
        report |= trainer.feed.stats()
        self.write(trainer, report)
        verdict = self.leaks.verdict(trainer.progress.step, report["active_gib"] * GIB)
        if verdict is not None:
            growth, warning = verdict
            self.write(trainer, {"warning": warning, "leak_mib_per_step": growth / 2**20})

    def write(self, trainer: Trainer, values: dict[str, Any]) -> None:
        """Write a record of the current step to every sink."""
        progress = trainer.progress
        record = {"step": progress.step, "tokens": progress.tokens, **values}
        if progress.skipped:
            record["skipped"] = progress.skipped
        for sink in list(self.sinks):
            try:
                sink.write(record)
            except RunError:
                raise  # the log on a full disk: a resume needs it
            except Exception as error:
                self.sinks.remove(sink)
                warnings.warn(
                    f"{type(sink).__name__} takes no more records ({error}). Training continues.",
                    RunWarning,
                    stacklevel=2,
                )


class Evaluate:
    """Evaluates every `eval.every` steps and at the last; keeps the best. Early stopping.

    The other texts of a mixture are evaluated, too, but rank nothing.
    """

    def __init__(
        self,
        config: Eval,
        evaluator: Evaluator,
        batches: Callable[[], Iterable[Batch]],
        mixed: Callable[[], Mapping[str, Iterable[Batch]]],
        report: Report,
        best: Best = VAL_LOSS,
    ) -> None:
        self.config = config
        self.evaluator = evaluator
        self.batches, self.mixed = batches, mixed
        self.report = report
        self.best = best

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        progress = trainer.progress
        if progress.step % self.config.every and trainer.reason != "finished":
            return
        with paused(trainer, self.report.window):
            values = self.evaluator(self._shown(self.batches()))
            values |= self.evaluator.losses(self.mixed())
            self.report.status("")
            self.report.write(trainer, values)
        if self.best.metric not in values:
            raise RunError(
                f"The objective ranks checkpoints by '{self.best.metric}', which its evaluation "
                f"doesn't report. It reports: {', '.join(values)}."
            )
        value = values[self.best.metric]
        if math.isnan(value) and trainer.reason == "finished":
            raise RunError(
                f"The validation {metric_title(self.best.metric)} after the last step is NaN, so "
                "the run is not saved as finished. Lower optim.learning_rate, and continue from "
                "the last checkpoint."
            )
        self._rank(trainer, value)

    def _shown(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches on, showing how many are done."""
        total = f" of {len(batches)}" if isinstance(batches, Sized) else ""
        for number, batch in enumerate(batches, start=1):
            self.report.status(f"validating {number}{total}")
            yield batch

    def _rank(self, trainer: Trainer, value: float) -> None:
        """Remember the best evaluation; stop the run after `eval.patience` that were not better."""
        progress = trainer.progress
        if self.best.improves(value, progress.best_loss):
            progress.best_loss, progress.best_step = value, progress.step
            progress.stale_evals = 0
            return
        progress.stale_evals += 1
        if trainer.reason is None and progress.stopped_early(self.config.patience):
            trainer.reason = (
                f"stopped early: no better validation {metric_title(self.best.metric)} in "
                f"{progress.stale_evals} "
                f"evaluations since step {progress.best_step}"
            )
            self.report.flush(trainer)


class Sample:
    """Writes generated text to every sink, every `log.sample_every` steps."""

    def __init__(self, every: int, generate: Callable[[], str], report: Report) -> None:
        self.every = every
        self.generate = generate
        self.report = report

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        if trainer.progress.step % self.every:
            return
        with paused(trainer, self.report.window):
            try:
                written = trainer.feed.sample()
                values = {"sample": self.generate() if written is None else written}
            except MlxtError as error:
                values = {"warning": f"No sample: {error}"}
            self.report.write(trainer, values)


class Save:
    """Saves every `checkpoint.every` steps, at a new best, and when the run ends.

    Args:
        config: the recipe's `[checkpoint]`.
        save: `save(progress, best)` writes a checkpoint; `best` marks it as the best so far.
        window: steps and seconds that no report has counted yet.
        background: the thread in which `save` may write. The last checkpoint is waited for, and the
            error of an earlier one stops the run.
    """

    def __init__(
        self,
        config: Checkpoints,
        save: Callable[[Progress, bool], None],
        window: Window,
        background: Background,
    ) -> None:
        self.every = config.every
        self.save = save
        self.window = window
        self.background = background

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        self.background.check()
        step, best = trainer.progress.step, trainer.progress.best_step == trainer.progress.step
        if step % self.every and not best and trainer.reason is None:
            return
        with paused(trainer, self.window):
            skipped, seconds = self.window.pending()
            progress = replace(
                trainer.progress,
                skipped=trainer.progress.skipped + skipped,
                seconds=trainer.progress.seconds + seconds,
            )
            if progress.skipped >= step and not trainer.step.may_recover:
                raise RunError(
                    f"None of the {step} steps had a finite gradient, so nothing was learned. "
                    "Lower optim.learning_rate, or train in float32 or bfloat16."
                )
            check_weights(trainer.step.train_state, step)
            self.save(progress, best)
            if trainer.reason is not None:
                self.background.wait()
        check_outcome(trainer, progress.skipped)
