"""What happens beside the steps: reports, evaluations, samples, checkpoints.

A moment is called after every step and decides itself whether its time has come. They run in the
order of the trainer's list; saving is last, so that a checkpoint holds what the others decided.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import mlx.core as mx

from ..core.errors import RunError
from .config import Checkpoints, Eval, Log
from .evaluate import Evaluator
from .loop import Metrics, Trainer
from .metrics import Window

Record = dict[str, Any]


class Sink(Protocol):
    """Takes the records of a run: the screen, the log file, TensorBoard."""

    def write(self, record: Record) -> None:
        """One record; every one has `step`."""


class Report:
    """Every `log.every` steps: the means since the last report, to every sink."""

    def __init__(self, config: Log, window: Window, sinks: list[Sink], stop_nonfinite: bool) -> None:
        self.every = config.every
        self.window = window
        self.sinks = sinks
        self.stop_nonfinite = stop_nonfinite

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        self.window.add(metrics, trainer.tokens_per_step)
        if self.stop_nonfinite and not metrics["finite"].item():
            trainer.reason = (
                f"stopped: the gradient of step {trainer.progress.step} is not finite "
                "(train.nonfinite = 'stop')"
            )
        if trainer.progress.step % self.every and trainer.reason is None:
            return
        report = self.window.read()
        trainer.progress.skipped += int(report.pop("skipped"))
        trainer.progress.seconds += report.pop("seconds")
        report["seconds_total"] = trainer.progress.seconds
        report["loader_tokens_per_s"] = trainer.feed.tokens_per_s
        self.write(trainer, report)

    def write(self, trainer: Trainer, values: dict[str, Any]) -> None:
        """One record of the present step to every sink."""
        progress = trainer.progress
        record = {"step": progress.step, "tokens": progress.tokens, **values}
        if progress.skipped:
            record["skipped"] = progress.skipped
        for sink in self.sinks:
            sink.write(record)


class Evaluate:
    """Every `eval.every` steps and at the end: validation, the best so far, early stopping."""

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
        start = time.perf_counter()
        values = self.evaluator(self.batches())
        self.report.write(trainer, values)
        if progress.best_loss is None or values["val_loss"] < progress.best_loss:
            progress.best_loss, progress.best_step = values["val_loss"], progress.step
            progress.stale_evals = 0
        else:
            progress.stale_evals += 1
            if self.config.patience is not None and progress.stale_evals >= self.config.patience:
                trainer.reason = trainer.reason or (
                    f"stopped early: no better validation loss in {progress.stale_evals} "
                    f"evaluations since step {progress.best_step}"
                )
        self.report.window.pause(time.perf_counter() - start)


class Sample:
    """Every `log.sample_every` steps: a few words from the model, to every sink."""

    def __init__(self, every: int, generate: Callable[[], str], report: Report) -> None:
        self.every = every
        self.generate = generate
        self.report = report

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        if trainer.progress.step % self.every:
            return
        start = time.perf_counter()
        self.report.write(trainer, {"sample": self.generate()})
        self.report.window.pause(time.perf_counter() - start)


class Save:
    """Every `checkpoint.every` steps and at the end, whatever ends the run: a checkpoint."""

    def __init__(
        self, config: Checkpoints, save: Callable[[Trainer, bool], None], window: Window
    ) -> None:
        self.every = config.every
        self.save = save
        self.window = window

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        progress = trainer.progress
        if progress.step % self.every and trainer.reason is None:
            return
        start = time.perf_counter()
        mx.eval(trainer.step.state)
        if not metrics["finite"].item() and progress.skipped >= progress.step:
            raise RunError(
                "No step of this run had a finite gradient, so nothing was learned. Lower "
                "optim.learning_rate, or train in float32 or bfloat16."
            )
        self.save(trainer, progress.best_step == progress.step)
        self.window.pause(time.perf_counter() - start)
