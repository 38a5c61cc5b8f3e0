"""Process groups for data-parallel and tensor-parallel training.

Data-parallel processes split every batch. A step needs only sums from the other ranks (gradients,
weight, parts of the loss), so one all-reduce per step makes N processes equal to one. Rank 0 is the
main process: it alone reads checkpoints and writes anything, and broadcasts its state at the start.
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

from ..core.errors import RecipeError, RunError
from ..core.tree import Tree

BUCKET_BYTES = 32 << 20
"""Size of the flat buffers in which arrays are all-reduced: each call costs milliseconds."""

STOPS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals on which all processes save and stop, whichever of them received it."""


class Ranks:
    """A single process, rank 0 of 1: every collective operation returns its input.

    Attributes:
        rank: index of this process's shard of a batch.
        world: number of shards of a batch.
    """

    rank = 0
    world = 1

    @property
    def number(self) -> int:
        """Index of this process in the job."""
        return self.rank

    @property
    def processes(self) -> int:
        """Number of processes in the job."""
        return self.world

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which reads and writes runs and prints."""
        return self.number == 0

    def all_reduce(self, tree: Tree) -> Tree:
        """Sum every array over the ranks, packed into few large buffers."""
        return tree

    def broadcast(self, tree: Tree) -> Tree:
        """Return rank 0's arrays on every rank; names, shapes and dtypes must agree."""
        return tree

    def all_gather(self, flat: mx.array) -> mx.array:
        """Stack the vectors `[n]` of all ranks, in their order: `[world, n]`."""
        return flat[None]

    def gather(self, value: object) -> list[Any]:
        """Return the JSON values of all ranks, by rank; waits for all of them."""
        return [value]

    def stop(self, name: str | None) -> str | None:
        """Return the signal on which all ranks stop now, given the one received here."""
        return name

    def agree(self, facts: dict[str, Any]) -> None:
        """Check that all ranks have the same facts.

        Raises:
            RunError: they differ; names the ranks, the facts and both values.
        """
        ours = json.loads(json.dumps(facts, default=str))
        first, *other_ranks = self.gather(ours)
        faults = [
            f"  {name}: {first.get(name)!r} on rank 0, {theirs.get(name)!r} on rank {rank}"
            for rank, theirs in enumerate(other_ranks, 1)
            for name in {**first, **theirs}
            if first.get(name) != theirs.get(name)
        ]
        if faults:
            raise RunError(
                "The processes of this job have different settings:\n" + "\n".join(faults) + "\n"
                "Give all of them the same recipe, text and versions."
            )


SINGLE = Ranks()
"""The ranks of a process that was not launched as one of several."""


class DataParallelGroup(Ranks):
    """One of several processes that split every batch.

    Signals travel with `all_reduce`: each carries the signal that this rank has received. The sum
    before the last has been waited for, so its signals are known without another exchange, and all
    ranks stop after the same step, the second one after the signal.
    """

    def __init__(self, group: Any) -> None:
        self.group = group
        self.rank: int = group.rank()
        self.world: int = group.size()
        self._received: str | None = None
        self._counts: deque[mx.array] = deque(maxlen=2)

    def all_reduce(self, tree: Tree) -> Tree:
        received = mx.array([float(self._received == name) for name in STOPS])
        tree, counts = self._sum((tree, received))
        # Started here, so that reading the counts later doesn't wait for the next step.
        mx.async_eval(tree, counts)
        self._counts.append(counts)
        return tree

    def stop(self, name: str | None) -> str | None:
        self._received = name
        if len(self._counts) < 2:
            return None
        counts = _read(self._counts[0])
        return next((stop for stop, count in zip(STOPS, counts, strict=True) if count), None)

    def broadcast(self, tree: Tree) -> Tree:
        return self._sum(tree if self.is_main else tree_map(mx.zeros_like, tree))

    def all_gather(self, flat: mx.array) -> mx.array:
        return mx.distributed.all_gather(flat[None], group=self.group)

    def gather(self, value: object) -> list[Any]:
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        sizes = self._gathered(np.array([len(text)], np.int32))
        padded = np.zeros((1, sizes.max()), np.uint8)
        padded[0, : len(text)] = text
        rows = self._gathered(padded)
        return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]

    def _gathered(self, array: np.ndarray) -> np.ndarray:
        return _read(mx.distributed.all_gather(mx.array(array), group=self.group))

    def _sum(self, tree: Tree) -> Tree:
        leaves = [leaf for _, leaf in tree_flatten(tree)]
        summed: list[mx.array] = []
        flat: mx.array | None = None
        for bucket in buckets(leaves):
            before = flat
            flat = mx.concatenate([leaf.reshape(-1) for leaf in bucket])
            if before is not None:
                # All ranks must communicate in one order, whatever is evaluated first.
                flat = mx.depends([flat], [before])[0]
            flat = mx.distributed.all_sum(flat, group=self.group)
            ends = np.cumsum([leaf.size for leaf in bucket])[:-1].tolist()
            parts = mx.split(flat, ends)
            summed += [p.reshape(leaf.shape) for p, leaf in zip(parts, bucket, strict=True)]
        iterator = iter(summed)
        return tree_map(lambda _: next(iterator), tree)


class TensorParallelGroup(DataParallelGroup):
    """One of several processes that split every layer of a model and see the same rows.

    They all-reduce inside the layers; between steps only signals travel.
    """

    def __init__(self, group: object) -> None:
        super().__init__(group)
        self.rank, self.world = 0, 1

    @property
    def number(self) -> int:
        number: int = self.group.rank()
        return number

    @property
    def processes(self) -> int:
        processes: int = self.group.size()
        return processes

    def all_reduce(self, tree: Tree) -> Tree:
        return tree

    def stop(self, name: str | None) -> str | None:
        stop = super().stop(name)
        super().all_reduce(())
        return stop


def tensor_parallel_ranks(ranks: Ranks, n: int) -> Ranks:
    """Return the ranks of a job for `train.tensor_parallel = n`.

    Raises:
        RunError: the job has not `n` processes.
    """
    if n == 1:
        return ranks
    if not isinstance(ranks, DataParallelGroup) or ranks.processes != n:
        cure = f"Start {n} (mlx.launch -n {n})"
        if ranks.processes > 1:
            cure = (
                "Tensor and data parallelism can't be combined, since MLX's ring can't split a "
                f"group (Group.split). {cure}, or set it to {ranks.processes}"
            )
        raise RunError(
            f"train.tensor_parallel = {n} splits every layer over {n} processes, and this job has "
            f"{ranks.processes}. {cure}, or set it to 1."
        )
    return TensorParallelGroup(ranks.group)


def _read(array: mx.array) -> np.ndarray:
    """Return the array on the host; NumPy alone would hide a failed exchange."""
    mx.eval(array)
    return np.array(array)


def buckets(leaves: Sequence[mx.array]) -> Iterator[list[mx.array]]:
    """Group neighbouring arrays of one dtype up to `BUCKET_BYTES`; larger arrays stand alone."""
    bucket: list[mx.array] = []
    for leaf in leaves:
        full = sum(x.nbytes for x in bucket) + leaf.nbytes > BUCKET_BYTES
        if bucket and (full or leaf.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(leaf)
    if bucket:
        yield bucket


def check_divisible(ranks: Ranks, **rows: int) -> None:
    """Check that batches split evenly over the ranks.

    Args:
        ranks: the ranks.
        rows: rows of a batch by the recipe's key, its dot written `__`.

    Raises:
        RecipeError: a batch does not; names its key and the nearest sizes that do.
    """
    for name, count in rows.items():
        spare = count % ranks.world
        if spare:
            low, high = count - spare, count - spare + ranks.world
            sizes = f"{low} or {high}" if low else f"{high}"
            raise RecipeError(
                f"{name.replace('__', '.')} = {count} can't be split evenly over {ranks.world} "
                f"processes: it counts the rows of all of them. Take {sizes}."
            )
