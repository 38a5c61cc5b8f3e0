"""Rows about processes: a run that is killed and resumed, and one that two processes share.

Each measurement trains the recipe for a few steps as a user does, with `mlxt train` in processes of
their own.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..assembly.recipe import Recipe
from ..core.errors import RunError
from ..core.tree import Tree
from ..recipe.toml import to_toml
from ..runs import checkpoint
from ..runs.folder import RunFolder
from .difference import tree_difference, unequal
from .gradients import check_rows_independent
from .row import Measured, Row
from .subject import Subject, sizes, tables

STEPS = 4
SAVED = 2
"""The step whose checkpoint a killed run leaves."""
DEADLINE = 600.0
"""Seconds after which a training of a few steps counts as hung."""
PACKAGE = Path(__file__).parents[2]


@dataclass
class Trainings:
    """Short trainings of one recipe, each `mlxt train` in processes of its own.

    Leaving the context kills those that still run.

    Attributes:
        recipe: the recipe.
        sets: overrides of all of them.
        work: the folder of their runs.
    """

    recipe: Recipe
    sets: Sequence[str]
    work: Path
    started: "list[subprocess.Popen[str]]" = field(default_factory=list, init=False)

    def __enter__(self) -> "Trainings":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.started:
            process.kill()
            process.wait()

    @cached_property
    def file(self) -> Path:
        """The recipe's file; written once, since processes read it while others are started."""
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / "recipe.toml"
        path.write_text(to_toml({k: v for k, v in tables(self.recipe).items() if k != "log"}))
        return path

    def start(self, name: str, *options: str, **env: str) -> "subprocess.Popen[str]":
        """Start a training; `finish` waits for it."""
        argv = [sys.executable, "-m", "mlx_transformers.cli.main", "train", str(self.file)]
        argv += ["--name", name, "--runs", str(self.work / "runs"), *options]
        for override in self.sets:
            argv += ["--set", override]
        python_path = os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": python_path, "MLX_DISABLE_COMPILE": "1", **env}
        output = open(self.work / f"output-{len(self.started)}.txt", "w+")  # noqa: SIM115
        with output:
            process = subprocess.Popen(argv, env=env, text=True, stdout=output, stderr=output)
        self.started.append(process)
        return process

    def finish(self, *processes: "subprocess.Popen[str]") -> None:
        """Wait for processes that train together.

        Raises:
            RunError: one failed, or is still there after ten minutes.
        """
        end = time.monotonic() + DEADLINE
        try:
            codes = [process.wait(max(0.1, end - time.monotonic())) for process in processes]
        except subprocess.TimeoutExpired:
            raise RunError("A training of a few steps was not over after ten minutes.") from None
        if any(codes):
            texts = sorted(self.work.glob("output-*.txt"), key=lambda p: p.stat().st_mtime)
            outputs = [p.read_text().strip().splitlines() for p in texts[-len(processes) :]]
            raise RunError("mlxt train failed: " + " ".join(s[-1] for s in outputs if s))

    def folder(self, name: str) -> RunFolder:
        """The run of a training."""
        return RunFolder(self.work / "runs" / name)

    def last(self, name: str) -> dict[str, Tree]:
        """The arrays of a training's last checkpoint."""
        return checkpoint.load(self.folder(name).checkpoints / "last")[0]


def resumed(subject: Subject) -> Measured:
    """Compare a run that was killed after a checkpoint and resumed with one that was not."""
    sets = [*sizes(subject.recipe), *first_stage(subject), f"train.steps={STEPS}"]
    sets += [f"checkpoint.every={SAVED}", "eval.every=1000", "eval.batches=1"]
    with Trainings(subject.recipe, sets, subject.work / "resumed") as runs:
        runs.finish(runs.start("whole"))
        killed = runs.start("killed", "--set", "train.share=0.2")
        kill_at(killed, runs.folder("killed").checkpoints / f"step-{SAVED:06d}")
        runs.finish(runs.start("killed", "--resume", "auto"))
    uninterrupted, again = runs.last("whole"), runs.last("killed")
    return Measured(
        unequal(uninterrupted, again), f"{len(uninterrupted)} files of the last checkpoint"
    )


def first_stage(subject: Subject) -> list[str]:
    """The overrides that leave out the stages of a model that grows: a few steps don't reach
    them."""
    return ["grow=[]"] if subject.recipe.grow else []


def kill_at(process: "subprocess.Popen[str]", place: Path) -> None:
    """Kill a training as soon as a checkpoint is there.

    Raises:
        RunError: the training ended before.
    """
    end = time.monotonic() + DEADLINE
    while not place.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise RunError("mlxt train ended before it could be killed.")


def shared(subject: Subject) -> Measured:
    """Compare two processes that split every batch with one process."""
    check_rows_independent(subject)
    # SGD, because others turn the rounding of a gradient that is zero into a step.
    sets = [*sizes(subject.recipe), *first_stage(subject), *subject.still]
    sets += ["optim={kind='sgd',learning_rate=0.1}"]
    if subject.recipe.sparse is not None:
        sets.append("sparse.method='static'")  # rounding decides which connections change
    sets += ["train.steps=2", "checkpoint.every=1000", "eval.every=1000", "eval.batches=1"]
    with Trainings(subject.recipe, sets, subject.work / "shared") as runs:
        runs.finish(runs.start("one"))
        hosts = str(runs.work / "hosts.json")
        Path(hosts).write_text(json.dumps([[address] for address in free_addresses(2)]))
        ranks = [
            runs.start("two", MLX_RANK=str(rank), MLX_HOSTFILE=hosts, OPENBLAS_NUM_THREADS="1")
            for rank in range(2)
        ]
        runs.finish(*ranks)
    single, split = (runs.last(name)["model"] for name in ("one", "two"))
    return Measured(tree_difference(single, split))


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Raise SystemExit on SIGTERM and SIGHUP inside the block, so that contexts inside it end.

    Python's default ends the process at once, and the processes that it started go on.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    previous = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, leave)
    except ValueError:
        pass  # not the main thread: its owner handles signals
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def free_addresses(n: int) -> list[str]:
    """Addresses of this machine that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]


PROCESSES = (
    Row(
        "two processes = one",
        "Two processes that split every batch train the weights that one does.",
        "relative difference of the trained weights",
        1e-5,
        shared,
    ),
    Row(
        "killed and resumed = whole",
        "A run that is killed and resumed ends with the bits of one that was not.",
        "files that differ in a bit",
        0,
        resumed,
    ),
)
"""Rows about processes."""
