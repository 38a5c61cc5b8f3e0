"""Time of a training step by part: data, forward, backward, optimizer, sync.

A round times a few steps of the trainer's own loop, and then in turns, waiting after each, the loss
alone, the loss with its gradients, and the whole step, each compiled separately. Parts are shares
of the loop's step in the same round, so a machine that slows down between rounds doesn't distort
them; the median over the rounds is reported.

    forward    the loss alone
    backward   loss with gradients - forward
    optimizer  whole step - loss with gradients: clipping, update, gradient accumulation; of a step
               with its state in a file clipping and update alone
    data       time that the loop waits for a batch and its transfer to the device
    sync       the loop's step - all of these: queueing and waiting. Negative means overlap: the
               loop runs one step ahead of the device

A chunked loss (`ops/xent.py`) computes the head's gradients in the forward part.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import mlx.core as mx

from ..core.context import Context
from ..core.device import GIB
from ..core.tree import size_bytes
from ..runs.progress import Progress
from ..trainer.forward import Batch
from ..trainer.loop import Metrics, Trainer, arrays
from ..trainer.offload import OffloadedStep
from ..trainer.source import Feed
from ..trainer.step import Step
from ..trainer.traced import Traced
from .timing import Spread, seconds

PARTS = ("data", "forward", "backward", "optimizer", "sync")


class TimedFeed:
    """A feed that measures how many seconds the loop waits for each batch."""

    def __init__(self, stream: Feed) -> None:
        self.stream = stream
        self.seconds: list[float] = []

    def __next__(self) -> dict[str, Any]:
        started = time.perf_counter()
        batch = arrays(next(self.stream))
        mx.eval(batch)
        self.seconds.append(time.perf_counter() - started)
        return batch

    def preview(self, n: int) -> list[dict[str, Any]]:
        return self.stream.preview(n)

    def stats(self) -> dict[str, Any]:
        return self.stream.stats()

    def sample(self) -> str | None:
        return self.stream.sample()

    def close(self) -> None:
        self.stream.close()

    @property
    def cursor(self) -> dict[str, Any]:
        return self.stream.cursor

    @property
    def tokens_per_s(self) -> float:
        return self.stream.tokens_per_s

    @property
    def shapes(self) -> int:
        return self.stream.shapes


class StepTimer:
    """Measures a step in rounds.

    Attributes:
        loop: seconds of each step of the trainer's loop.
        shares: for each round, the parts as shares of a step of its loop.
        peak_gib: peak MLX memory of the loop, GiB.
    """

    def __init__(self, step: Step, feed: TimedFeed) -> None:
        self.step = step
        self.feed = feed
        self.loop: list[float] = []
        self.shares: list[dict[str, float]] = []
        self.peak_gib = 0.0
        state = [[m.state for m in step.loss.roles.values()], mx.random.state]
        self._forward = Traced(self._loss, state)
        self._gradients = Traced(self._with_gradients, state)
        self._batches = [next(feed) for _ in range(step.config.accumulate)]

    def warm(self) -> None:
        """Compile everything that `round` times."""
        self.step.parallel.check(self.step.loss, self._batches[0])
        for task in self._tasks().values():
            seconds(task)

    def round(self, steps: int) -> None:
        """Time `steps` steps of the loop, then half as many of each of the others.

        Raises:
            KeyboardInterrupt: a signal asked the loop to stop.
        """
        self.feed.seconds.clear()
        loop = self.loop_steps(steps)
        took: dict[str, list[float]] = {name: [] for name in self._tasks()}
        with self.step.parallel.single_threaded():
            for _ in range(max(1, steps // 2)):
                for name, task in self._tasks().items():
                    took[name].append(seconds(task))
        self.loop += loop
        self.shares.append(self._round_shares(median(loop), took))

    def parts(self) -> dict[str, Spread]:
        """Shares of a step by part over the rounds; the medians add up to 1."""
        spreads = {name: Spread.of([share[name] for share in self.shares]) for name in PARTS}
        sync = 1.0 - sum(spreads[name].median for name in PARTS[:-1])
        return spreads | {"sync": Spread(sync, spreads["sync"].low, spreads["sync"].high)}

    def _round_shares(self, step_s: float, took: dict[str, list[float]]) -> dict[str, float]:
        middle = {name: median(values) for name, values in took.items()}
        parts = (
            median(self.feed.seconds) * self.step.config.accumulate,
            middle["forward"],
            middle["gradients"] - middle["forward"],
            middle["whole"] - middle["gradients"],
        )
        shares = [value / step_s for value in parts]
        return dict(zip(PARTS, (*shares, 1.0 - sum(shares)), strict=True))

    def _tasks(self) -> dict[str, Callable[[], Any]]:
        return {
            "forward": lambda: self._each(self._forward),
            "gradients": self._all_gradients,
            "whole": lambda: (self.step(self._batches, 0), self.step.state),
        }

    def _all_gradients(self) -> None:
        """Compute the gradients; where the step writes them to a file, by the step itself."""
        if isinstance(self.step, OffloadedStep):
            keys = mx.random.split(mx.random.key(0), len(self._batches))
            self.step.gradient(self._batches, keys)
        else:
            self._each(self._gradients)

    def _each(self, f: Callable[..., Any]) -> None:
        """Evaluate `f` for each microbatch in order, as the step does."""
        for number, batch in enumerate(self._batches):
            mx.eval(f(batch, mx.random.key(number)))

    def loop_steps(self, steps: int) -> list[float]:
        """Run so many steps of the trainer's loop and return the seconds of each.

        Raises:
            KeyboardInterrupt: a signal asked the loop to stop.
        """
        marks: list[float] = []

        def mark(trainer: Trainer, metrics: Metrics) -> None:
            marks.append(time.perf_counter())

        # The loop is one step ahead: its first mark comes before any step is done.
        config = self.step.config.model_copy(update={"steps": steps + 1})
        mx.reset_peak_memory()
        reason = Trainer(self.step, self.feed, config, [mark], Progress()).run()
        mx.eval(self.step.state)
        self.peak_gib = max(self.peak_gib, mx.get_peak_memory() / GIB)
        if reason != "finished":
            raise KeyboardInterrupt
        return [after - before for before, after in pairwise(marks)]

    def _scalar(self, params: object, batch: Batch, key: mx.array) -> mx.array:
        return self.step.loss(params, batch, Context(key=key)).total

    def _loss(self, batch: Batch, key: mx.array) -> Any:
        """The loss, in the parts in which the step computes a batch."""
        trained = self.step.model.trainable_parameters()
        return self.step.parallel(lambda *rows: self._scalar(trained, *rows), batch, key)

    def _with_gradients(self, batch: Batch, key: mx.array) -> Any:
        """The loss and its gradients, in the same parts."""
        trained, both = self.step.model.trainable_parameters(), mx.value_and_grad(self._scalar)
        return self.step.parallel(lambda *rows: both(trained, *rows), batch, key)


def step_bytes(step: Step) -> int:
    """Least bytes that one step moves, activations not counted.

    Weights are read forward and backward in the compute type for each microbatch; gradients are
    written and read, optimizer state and weights read and written, once.
    """
    weights = step.model.trainable_parameters()
    weight_bytes = size_bytes(weights)
    computing = weight_bytes if step.dtype == mx.float32 else weight_bytes // 2
    passes = 2 * computing * step.config.accumulate
    return (
        passes
        + 2 * weight_bytes
        + 2 * size_bytes(step.train_state.optimizer.state)
        + 2 * weight_bytes
    )
