"""The rows of a batch in equal parts, each on a CPU stream of its own, inside one compiled step.

    sums = sum over parts p of gradients(rows of p)        each part under `mx.stream(s_p)`

A part is to the batch as a microbatch is to a step: losses, weights and gradients are sums over
rows, so the parts add up to the batch. The number of streams is the machine's choice
(`core.cpu_streams`). MLX computes everything else, such as the update, on the default stream.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlx.core as mx
from mlx.utils import tree_map

from ..core.blas import single_threaded
from ..core.context import Collected, Context
from ..core.cpu_streams import CHOICE, PARTS
from ..core.tree import Tree
from ..layers.hooks import Hooks
from ..optim.clip import global_norm
from .forward import Batch, Forward

Sums = Callable[[Batch, mx.array], Tree]
"""`(batch, key) -> sums` over the rows of a batch: a tree of arrays."""

TOLERANCE = 1e-4
"""Largest difference that rounding makes between a gradient and the sum of those of its rows,
relative to its norm."""


class ParallelRows:
    """Computes sums over the rows of a batch in parts, where that changes nothing but their order.

    Attributes:
        wanted: the number of parts, where the loss allows it.
        streams: the number of parts in force: 1 until a batch was checked.
        why: the reason why batches are computed whole, in a sentence; empty where there is none.
        asked: whether a user asked for several streams.
    """

    def __init__(self, wanted: int = 1, why: str = "", asked: bool = False) -> None:
        self.wanted = wanted
        self.streams = 1
        self.why, self.asked = why, asked
        self._checked = wanted == 1

    @property
    def notices(self) -> list[str]:
        """Sentences for a user who asked for several streams and has one."""
        asked = f"Each batch is computed whole, though {CHOICE} asks for several streams."
        return [f"{asked} {self.why}"] if self.why and self.asked else []

    def check(self, loss: Forward, batch: Batch) -> None:
        """Look at the first batch, before the step is compiled; others are taken to be like it.

        They are computed whole where `why_whole` finds a reason.
        """
        if not self._checked:
            self._checked = True
            self.why = why_whole(loss, batch, self.wanted)
            self.streams = 1 if self.why else self.wanted

    def settle(self, count: int) -> None:
        """Compute batches in `count` parts without a check, as earlier steps were computed."""
        self.wanted = self.streams = count
        self.why, self._checked = "", True

    @contextmanager
    def single_threaded(self) -> Iterator[None]:
        """Have matrix products inside the block use one thread each, if several streams compute.

        Their threads change while nothing is computed: the streams are waited for before and after.
        """
        if self.streams == 1:
            yield
            return
        used = streams(self.streams)
        _wait(used)
        with single_threaded():
            try:
                yield
            finally:
                _wait(used)

    def __call__(self, sums: Sums, batch: Batch, key: mx.array) -> Tree:
        """Return `sums(batch, key)`, in parts if the rows of the batch divide evenly."""
        if self.streams == 1 or not divides(batch, self.streams):
            return sums(batch, key)
        sums_of_parts = []
        outer = PARTS.set(self.streams)
        try:
            for stream, part in zip(streams(self.streams), parts(batch, self.streams), strict=True):
                with mx.stream(stream):
                    sums_of_parts.append(sums(part, key))
        finally:
            PARTS.reset(outer)
        total, *others = sums_of_parts
        for other in others:
            total = tree_map(mx.add, total, other)
        return total


def why_whole(loss: Forward, batch: Batch, count: int) -> str:
    """Return the reason why a batch can't be computed in `count` parts; empty where it can.

    The gradient of the batch must be the sum of those of its parts, and the same one on machines
    with other numbers of streams. It isn't

    - where a row's loss depends on other rows: in-batch negatives, and whatever else makes the
      gradient of two rows another one than the sum of theirs;
    - where layers add losses that are products of means over a batch, or update a state from
      statistics of a batch (routers of experts, codebooks);
    - where the pass draws random numbers (`Context.next_key`), since each part would draw its own:
      dropout, dropped layers, sampled masks;
    - where arrays of the batch don't divide into rows.

    Rows without a gradient of their own, such as padding, show nothing: two with one are compared.
    """
    if not divides(batch, count):
        return f"Its rows don't divide into {count} equal parts."
    if Hooks(loss.model).modules:
        return "Its layers keep statistics of a whole batch."
    alone: list[int] = []
    total: Tree = None
    for i in range(len(next(iter(batch.values())))):
        grads, collected = _gradient(loss, rows(batch, i, i + 1))
        if collected.aux or collected.router_sums:
            return "Its layers add losses that compare the tokens of a whole batch."
        if collected.draws.any:
            return "Its forward pass draws random numbers, such as dropout's."
        if global_norm(grads) > 0.0:
            alone.append(i)
            total = tree_map(mx.add, total, grads) if total else grads
            # Added now, so that two gradients are in memory at a time and not three.
            mx.eval(total)
            del grads
        if len(alone) == 2:
            break
    else:
        return "Fewer than two rows of the first batch have a gradient of their own."
    pair = {name: array[mx.array(alone)] for name, array in batch.items()}
    if _distance(_gradient(loss, pair)[0], total) > TOLERANCE:
        return "The loss of a row depends on the other rows of its batch."
    return ""


def divides(batch: Batch, count: int) -> bool:
    """Whether all arrays have as many rows, which divide into `count` parts."""
    sizes = {array.shape[0] if array.ndim else 0 for array in batch.values()}
    return len(sizes) == 1 and max(sizes) >= count and max(sizes) % count == 0


def parts(batch: Batch, count: int) -> Iterator[Batch]:
    """Yield `count` equal parts of the rows of a batch."""
    size = len(next(iter(batch.values()))) // count
    for i in range(count):
        yield rows(batch, i * size, (i + 1) * size)


def rows(batch: Batch, start: int, stop: int) -> Batch:
    """Some rows of a batch."""
    return {name: array[start:stop] for name, array in batch.items()}


def streams(count: int) -> list[mx.Stream]:
    """Return `count` CPU streams of this thread: the default one, and others, made once."""
    while len(_made.streams) < count - 1:
        _made.streams.append(mx.new_stream(mx.cpu))
    return [mx.default_stream(mx.cpu), *_made.streams[: count - 1]]


def _wait(used: list[mx.Stream]) -> None:
    for stream in used:
        mx.synchronize(stream)


class _Made(threading.local):
    """The streams that this thread has made: MLX lets no other thread use them, nor frees them."""

    def __init__(self) -> None:
        self.streams: list[mx.Stream] = []


_made = _Made()


def _gradient(loss: Forward, batch: Batch) -> tuple[Tree, Collected]:
    """The gradient of a few rows, evaluated, and the side outputs of their pass."""
    # Halfway through a run, when what is scheduled has begun.
    ctx = Context(key=mx.random.key(0), scalars={"progress": mx.array(0.5)})

    def total(params: Tree) -> mx.array:
        return loss(params, batch, ctx).total

    grads = mx.grad(total)(loss.model.trainable_parameters())
    mx.eval(grads)
    return grads, ctx.collected


def _distance(a: Tree, b: Tree) -> mx.array:
    """`|a - b| / |a|`, in L2 norms of all arrays."""
    return global_norm(tree_map(mx.subtract, a, b)) / mx.maximum(global_norm(a), 1e-30)
