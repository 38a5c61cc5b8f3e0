"""Training by several processes, each with its share of every batch or of every layer.

Of those who share a batch, what a step needs of the others is sums (gradients, weight, parts of the
loss), so one exchange per step makes N processes equal to one. Rank 0 leads: it alone reads
checkpoints and writes anything; the others are given its state when a run begins.
"""

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

from ..core.errors import RecipeError, RunError

Tree = Any

BUCKET_BYTES = 32 << 20
"""Arrays are summed in flat buffers of about this size: each call costs milliseconds."""

STOPS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals by which any process may ask all of them to save and stop."""

JOIN_SECONDS = 120.0
"""How long a process waits for the others to appear; $MLXT_JOIN_SECONDS changes it."""

GO_ON = "Checkpoints saved before are whole: start all processes again with --resume auto."


class Ranks:
    """A process on its own: rank 0 of 1. Every exchange gives back what it was given.

    Attributes:
        rank, world: which share of a batch's rows this process has, and of how many.
    """

    rank = 0
    world = 1

    @property
    def number(self) -> int:
        """Which of the processes this is."""
        return self.rank

    @property
    def processes(self) -> int:
        """How many there are."""
        return self.world

    @property
    def leads(self) -> bool:
        """Whether this process is the one that reads and writes runs, and talks."""
        return self.number == 0

    def sum(self, tree: Tree) -> Tree:
        """Every array summed over the ranks, in as few exchanges as there are large buffers."""
        return tree

    def copy(self, tree: Tree) -> Tree:
        """Rank 0's arrays, of the same names, shapes and dtypes, for every rank."""
        return tree

    def rows(self, flat: mx.array) -> mx.array:
        """The vectors of all ranks, of one length, as rows in their order: `[world, n]`."""
        return flat[None]

    def gather(self, value: Any) -> list[Any]:
        """A JSON value of every rank, by rank. Waits until all have come here."""
        return [value]

    def stop(self, name: str | None) -> str | None:
        """The signal that all ranks stop for now, given the one received here."""
        return name

    def agree(self, facts: dict[str, Any]) -> None:
        """Compare facts between the ranks.

        Raises:
            RunError: they differ; names the ranks, the facts and both values.
        """
        ours = json.loads(json.dumps(facts, default=str))
        first, *others = self.gather(ours)
        faults = [
            f"  {name}: {first.get(name)!r} on rank 0, {other.get(name)!r} on rank {rank}"
            for rank, other in enumerate(others, 1)
            for name in {**first, **other}
            if first.get(name) != other.get(name)
        ]
        if faults:
            raise RunError(
                "The processes of this job are not about to do the same:\n"
                + "\n".join(faults)
                + "\n"
                "Give all of them the same recipe, text and versions."
            )


ALONE = Ranks()
"""What holds wherever nothing was launched as a group."""


class Group(Ranks):
    """This process as one of several.

    `stop` rides on `sum`: each sum carries this rank's wish, and what all ranks wished in the sum
    before the last one, which has been waited for, is known without another exchange. So all of
    them stop after the same step, the second after the signal.
    """

    def __init__(self, group: Any) -> None:
        self.group = group
        self.rank: int = group.rank()
        self.world: int = group.size()
        self._wish: str | None = None
        self._wishes: deque[mx.array] = deque(maxlen=2)

    def sum(self, tree: Tree) -> Tree:
        wish = mx.array([float(self._wish == name) for name in STOPS])
        tree, wishes = self._sum((tree, wish))
        # Begun here, so that reading the wishes later doesn't wait behind the step after.
        mx.async_eval(tree, wishes)
        self._wishes.append(wishes)
        return tree

    def stop(self, name: str | None) -> str | None:
        self._wish = name
        if len(self._wishes) < 2:
            return None
        counts = _read(self._wishes[0])
        return next((stop for stop, count in zip(STOPS, counts, strict=True) if count), None)

    def copy(self, tree: Tree) -> Tree:
        return self._sum(tree if self.leads else tree_map(mx.zeros_like, tree))

    def rows(self, flat: mx.array) -> mx.array:
        return mx.distributed.all_gather(flat[None], group=self.group)

    def gather(self, value: Any) -> list[Any]:
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
                # All ranks must exchange in one order, whatever is evaluated first.
                flat = mx.depends([flat], [before])[0]
            flat = mx.distributed.all_sum(flat, group=self.group)
            ends = np.cumsum([leaf.size for leaf in bucket])[:-1].tolist()
            parts = mx.split(flat, ends)
            summed += [p.reshape(leaf.shape) for p, leaf in zip(parts, bucket, strict=True)]
        rest = iter(summed)
        return tree_map(lambda _: next(rest), tree)


class Layers(Group):
    """This process as one of several that share the layers of a model, and see the same rows.

    Their sums are made inside the layers, so only the wish to stop travels between steps.
    """

    def __init__(self, group: Any) -> None:
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

    def sum(self, tree: Tree) -> Tree:
        return tree

    def stop(self, name: str | None) -> str | None:
        stop = super().stop(name)
        super().sum(())
        return stop


def sharing_layers(ranks: Ranks, n: int) -> Ranks:
    """The processes of a job as `train.tensor_parallel = n` wants them.

    Raises:
        RunError: there are not `n` of them.
    """
    if n == 1:
        return ranks
    if not isinstance(ranks, Group) or ranks.processes != n:
        cure = f"Start {n} (mlx.launch -n {n})"
        if ranks.processes > 1:
            cure = (
                "Groups that share batches with each other are not there, since MLX's ring can't "
                f"split a group (Group.split). {cure}, or set it to {ranks.processes}"
            )
        raise RunError(
            f"train.tensor_parallel = {n} shares every layer among {n} processes, and this job has "
            f"{ranks.processes}. {cure}, or set it to 1."
        )
    return Layers(ranks.group)


def _read(array: mx.array) -> np.ndarray:
    """On the host; NumPy alone would wait, and then not say that the exchange failed."""
    mx.eval(array)
    return np.array(array)


def buckets(leaves: Sequence[mx.array]) -> Iterator[list[mx.array]]:
    """Neighbours of one dtype, together up to `BUCKET_BYTES`; a larger array stands alone."""
    bucket: list[mx.array] = []
    for leaf in leaves:
        full = sum(x.nbytes for x in bucket) + leaf.nbytes > BUCKET_BYTES
        if bucket and (full or leaf.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(leaf)
    if bucket:
        yield bucket


def launched() -> str | None:
    """The backend by which this process was launched as one of several; None if it was not.

    Raises:
        RunError: MLX_RANK is set, and nothing says where the other ranks are.
    """
    env = os.environ
    if "MLX_IBV_DEVICES" in env:
        return "jaccl"
    if "NCCL_HOST_IP" in env:
        return "nccl"
    if int(env.get("OMPI_COMM_WORLD_SIZE") or env.get("PMI_SIZE") or 1) > 1:
        return "mpi"
    if "MLX_RANK" not in env:
        return None
    hosts = Path(env.get("MLX_HOSTFILE", ""))
    if not hosts.is_file():
        raise RunError(
            f"MLX_RANK is {env['MLX_RANK']}, but MLX_HOSTFILE names no file that says where the "
            "other processes are. Start them with mlx.launch, or unset MLX_RANK."
        )
    return "ring" if hosts.read_text(encoding="utf-8").strip() else None  # blank for one process


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that this process is one of; `ALONE` where nothing was launched.

    Raises:
        RunError: the others can't be joined; or one of them has ended before the block did.
    """
    backend = launched()
    ranks = ALONE if backend is None else Group(_join(backend))
    try:
        yield ranks
    except RuntimeError as error:
        if ranks.processes == 1 or f"[{backend}]" not in str(error):
            raise
        raise RunError(
            "Another process of this job has ended, or can't be reached any more, so rank "
            f"{ranks.number} of {ranks.processes} ends too ({error}). What the other one printed "
            f"says why. {GO_ON}"
        ) from error


ALARM = """
import os, select, signal, sys
if not select.select([sys.stdin], [], [], float(sys.argv[1]))[0]:
    print(sys.argv[2], file=sys.stderr, flush=True)
    os.kill(os.getppid(), signal.SIGKILL)
"""
"""Ends its parent unless that closes the pipe in time, or is gone."""


def _join(backend: str) -> Any:
    """MLX's group. It would wait for ever, and deaf, for a rank that never comes: hence the alarm.

    Raises:
        RunError: MLX refuses.
    """
    seconds = float(os.environ.get("MLXT_JOIN_SECONDS", JOIN_SECONDS))
    sentence = (
        f"error: Rank {os.environ.get('MLX_RANK', '?')} has waited {seconds:g} s for the other "
        f"processes of this job ({backend}), and gives up. Look at what they printed; on several "
        "machines, check with: mlxt doctor --hosts FILE"
    )
    words = [sys.executable, "-ES", "-c", ALARM, str(seconds), sentence]
    with subprocess.Popen(words, stdin=subprocess.PIPE):
        try:
            return mx.distributed.init(strict=True, backend=backend)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"This process can't join the others over {backend}: {error}. Check the hosts: "
                "mlxt doctor --hosts FILE"
            ) from error


def check_shares(ranks: Ranks, **rows: int) -> None:
    """Refuse a batch whose rows can't be shared evenly.

    Args:
        ranks: who shares.
        rows: rows of a batch by the recipe's key, its dot written `__`.

    Raises:
        RecipeError: names the key and the nearest sizes that can.
    """
    for name, count in rows.items():
        spare = count % ranks.world
        if spare:
            low, high = count - spare, count - spare + ranks.world
            sizes = f"{low} or {high}" if low else f"{high}"
            raise RecipeError(
                f"{name.replace('__', '.')} = {count} can't be shared evenly by {ranks.world} "
                f"processes: it counts the rows of all of them. Take {sizes}."
            )
