"""Restarts a run that ran out of memory with smaller microbatches: `mlxt train --supervise`.

Without memory, MLX may raise, abort the process, or be killed by the system, so the run is a child
process and this one supervises it. A step keeps its rows; each restart at least halves the rows of
a microbatch, so restarts are few. Nothing here loads MLX.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

from ..core.errors import RunError
from ..core.messages import LogFn

OUT_OF_MEMORY = 71
"""Exit code of a run that reported by itself that memory ran out; EX_OSERR of sysexits.h."""

STATUS_VARIABLE = "MLXT_SUPERVISED"
"""Environment variable with the file into which a supervised process writes its `Status`."""

ENDED = ".ended"
"""Suffix of the file beside it that exists once Python itself ended the run."""

MICROBATCH = "train.microbatch"

CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
"""Signals that a failed allocation raises in a thread of MLX or of a BLAS."""

RUN = (
    "import sys; sys.argv[0] = 'mlxt'; from mlx_transformers.cli.main import main; "
    "from mlx_transformers.verbs.supervise import run_supervised; run_supervised(main)"
)
"""Python code of the child process, which runs `mlxt` under its usual name."""

GROUPS = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""Environment variables that a launcher sets for each process of a group."""


@dataclass(frozen=True)
class Status:
    """State of a supervised run, which it writes for its supervisor.

    Attributes:
        rows: rows of a microbatch.
        accumulate: microbatches of a step.
        run: the run's folder; None before it exists.
        began: name of the checkpoint that it resumed from; None if it began at step 0.
    """

    rows: int
    accumulate: int
    run: str | None = None
    began: str | None = None


@dataclass(frozen=True)
class Command:
    """Arguments of `mlxt train` that a restart repeats or changes."""

    recipe: str
    sets: tuple[str, ...] = ()
    name: str | None = None
    resume: str | None = None
    runs: str = "runs"

    def words(self) -> list[str]:
        """The command line after `mlxt`, as a list."""
        argv = ["train", self.recipe, "--runs", self.runs]
        argv += ["--name", self.name] if self.name else []
        argv += ["--resume", self.resume] if self.resume else []
        return argv + [argument for override in self.sets for argument in ("--set", override)]

    def restarted(self, status: Status, rows: int) -> "Command":
        """The command that resumes the run with microbatches of `rows`."""
        sets = [s for s in self.sets if s.partition("=")[0].strip() != MICROBATCH]
        again = replace(self, sets=(*sets, f"{MICROBATCH}={rows}"))
        folder = Path(status.run) if status.run else None
        if folder is None or not (folder / "recipe.toml").is_file():
            return again  # its first step failed: it left nothing
        if last_saved(folder) in (None, status.began) and self.resume not in (None, "auto"):
            return again  # nothing new was saved: from where the user said
        return replace(again, name=None, resume=status.run)


def notify(status: Status) -> None:
    """Write the status for the supervising process; does nothing in an unsupervised one."""
    if place := os.environ.get(STATUS_VARIABLE):
        partial = Path(f"{place}.partial")
        partial.write_text(json.dumps(asdict(status)), encoding="utf-8")
        os.replace(partial, place)


def run_supervised(run: Callable[[], None]) -> None:
    """Run a command in the child process; if it fails, exit at once, skipping exit handlers.

    Libraries join their threads when Python exits, and mlx-data's join hangs when memory is gone,
    so the supervisor would hang too. An end that passes through here leaves a file beside the
    status: a library that gets no memory may end the process without reaching it.
    """
    code = 1
    try:
        run()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
    with suppress(OSError):
        sys.stdout.flush()
        if place := os.environ.get(STATUS_VARIABLE):
            Path(place + ENDED).touch()
    if code:
        os._exit(code)


def last_saved(run: Path) -> str | None:
    """Name of a run's newest checkpoint, or None."""
    pointer = run / "checkpoints" / "last"
    name = pointer.read_text(encoding="utf-8", errors="replace") if pointer.is_file() else ""
    return name.strip() or None


def smaller(rows: int) -> int:
    """The largest proper divisor of `rows`, at most half of them."""
    return next(rows // n for n in range(2, rows + 1) if rows % n == 0)


def supervise(command: Command, say: LogFn = print) -> int:
    """Run a training, restarting it with smaller microbatches when memory runs out.

    Returns:
        The exit code of the last attempt.

    Raises:
        RunError: this process is one of a group, whose members can't be restarted alone.
    """
    if group := next((name for name in GROUPS if name in os.environ), None):
        raise RunError(
            f"--supervise restarts one process, and this is one of several ({group} is set): the "
            f"others would wait for it. Leave it out, and give {MICROBATCH} a smaller number."
        )
    with tempfile.TemporaryDirectory(prefix="mlxt-") as folder:
        place = Path(folder) / "status.json"
        while True:
            for old in (place, Path(f"{place}{ENDED}")):
                old.unlink(missing_ok=True)
            code, stop_requested = attempt(command.words(), place)
            why = ended_by(code, silent=not Path(f"{place}{ENDED}").exists())
            if why is None or stop_requested:
                return 128 - code if code < 0 else code
            status = Status(**json.loads(place.read_text("utf-8"))) if place.is_file() else None
            if status is None or status.rows == 1:
                say(give_up_message(why, status))
                return 128 - code if code < 0 else code
            rows = smaller(status.rows)
            say(restart_message(why, status, rows))
            command = command.restarted(status, rows)
            say(f"Supervised: mlxt {shlex.join(command.words())}")


def ended_by(code: int, silent: bool = False) -> str | None:
    """Explain how a lack of memory ended a process; None if the exit code means something else.

    Args:
        code: exit code as in `subprocess`: a signal's number, negative.
        silent: whether the process ended below Python, as OpenBLAS (1) and glibc (127) end it
            when they get no memory for a buffer or a thread.
    """
    if code == OUT_OF_MEMORY:
        return "There was no memory left"
    if code > 0 and silent:
        return f"A library ended the run (exit code {code}), as it does where it gets no memory"
    if code == -signal.SIGKILL:
        return "The system killed the run (SIGKILL), most likely since there was no memory left"
    if -code in CRASHES:
        name = signal.Signals(-code).name
        return f"The run crashed ({name}), as it does where an allocation fails"
    return None


def restart_message(why: str, status: Status, rows: int) -> str:
    """Explain the restart, in a sentence."""
    saved = last_saved(Path(status.run)) if status.run else None
    place = f"from {saved}" if saved else "from the start"
    more = status.rows * status.accumulate // rows
    return (
        f"{why}. It goes on {place} with {more} microbatches of {rows} rows instead of "
        f"{status.accumulate} of {status.rows}: a step still learns from {rows * more} rows."
    )


def give_up_message(why: str, status: Status | None) -> str:
    """Explain why there is no other attempt, in a sentence."""
    if status is None:
        return f"{why} before its first batch, so smaller microbatches would not help."
    return (
        f"{why} with one row at a time, so there is nothing left to halve. Shorten train.seq_len, "
        "set train.recompute=all, or take a smaller model."
    )


def attempt(argv: Sequence[str], place: Path) -> tuple[int, bool]:
    """Run one attempt in a child process; returns its exit code, and whether it was asked to stop.

    Ctrl-C on a terminal reaches both processes. Any other signal is passed on.
    """
    stop_requested = False
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *argv], env={**os.environ, STATUS_VARIABLE: str(place)}
    )

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal stop_requested
        stop_requested = True
        if number != signal.SIGINT or not on_terminal():
            process.send_signal(number)

    handlers = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait(), stop_requested
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def on_terminal() -> bool:
    """Whether Ctrl-C on a terminal would reach this process and its child."""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
