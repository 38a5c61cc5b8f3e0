"""What happens beside the steps: reports, evaluations, samples, checkpoints.

A moment is called after every step and decides itself whether its time has come. They run in the
order of the trainer's list; saving is last, so that a checkpoint holds what the others decided.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import mlx.core as mx

from ..core.device import GIB
from ..core.errors import RunError
from ..runs.progress import Progress
from .config import Checkpoints, Eval, Log
from .evaluate import Evaluator
from .leak import LeakWatch
from .loop import Metrics, Trainer
from .metrics import Window

Record = dict[str, Any]


class Sink(Protocol):
    """Takes the records of a run: the screen, the log file, TensorBoard."""

    def write(self, record: Record) -> None:
        """One record; every one has `step`."""


@contextmanager
def paused(trainer: Trainer, window: Window) -> Iterator[None]:
    """Time that is not the steps': the step in flight is waited for before it begins."""
    mx.eval(trainer.step.state)
    start = time.perf_counter()
    yield
    window.pause(time.perf_counter() - start)


class Report:
    """Every `log.every` steps: the means since the last report, to every sink."""

    def __init__(
        self, config: Log, window: Window, sinks: list[Sink], stop_nonfinite: bool
    ) -> None:
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
        """Report what was collected since the last report, if anything was."""
        if not self.window.metrics:
            return
        report = self.window.read()
        trainer.progress.skipped += int(report.pop("skipped"))
        trainer.progress.seconds += report.pop("seconds")
        report["seconds_total"] = trainer.progress.seconds
        report["loader_tokens_per_s"] = trainer.feed.tokens_per_s
        self.write(trainer, report)
        found = self.leaks.verdict(trainer.progress.step, report["active_gib"] * GIB)
        if found is not None:
            growth, warning = found
            self.write(trainer, {"warning": warning, "leak_mib_per_step": growth / 2**20})

    def write(self, trainer: Trainer, values: dict[str, Any]) -> None:
        """One record of the present step to every sink."""
        progress = trainer.progress
        record = {"step": progress.step, "tokens": progress.tokens, **values}
        if progress.skipped:
            record["skipped"] = progress.skipped
        for sink in self.sinks:
            sink.write(record)


class Evaluate:
    """Every `eval.every` steps and at the last one: validation, the best so far, early stopping."""

    def __init__(
        self,
        config: Eval,
        evaluator: Evaluator,
        batches: Callable[[], Iterable[dict[str, Any]]],
        report: Report,
    ) -> None:
        self.config = config
        self.evaluator = evaluator
        self.batches = batches
        self.report = report

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        progress = trainer.progress
        if progress.step % self.config.every and trainer.reason != "finished":
            return
        with paused(trainer, self.report.window):
            values = self.evaluator(self.batches())
            self.report.write(trainer, values)
        self._judge(trainer, values["val_loss"])

    def _judge(self, trainer: Trainer, loss: float) -> None:
        progress = trainer.progress
        best = math.inf if progress.best_loss is None else progress.best_loss
        if loss < best:  # never true of a NaN
            progress.best_loss, progress.best_step = loss, progress.step
            progress.stale_evals = 0
            return
        progress.stale_evals += 1
        if trainer.reason is None and progress.stopped_early(self.config.patience):
            trainer.reason = (
                f"stopped early: no better validation loss in {progress.stale_evals} "
                f"evaluations since step {progress.best_step}"
            )
            self.report.flush(trainer)


class Sample:
    """Every `log.sample_every` steps: a few words from the model, to every sink."""

    def __init__(self, every: int, generate: Callable[[], str], report: Report) -> None:
        self.every = every
        self.generate = generate
        self.report = report

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        if trainer.progress.step % self.every:
            return
        with paused(trainer, self.report.window):
            self.report.write(trainer, {"sample": self.generate()})


class Save:
    """Every `checkpoint.every` steps, at a new best, and at the end, whatever ends the run.

    `save(progress, best)` writes the checkpoint; `best` says that no evaluation before was better.
    """

    def __init__(
        self, config: Checkpoints, save: Callable[[Progress, bool], None], window: Window
    ) -> None:
        self.every = config.every
        self.save = save
        self.window = window

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
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
            self.save(progress, best)
