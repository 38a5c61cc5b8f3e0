"""`mlxt train --supervise`: a run that memory ended goes on with smaller microbatches.

Where memory ends, MLX may raise, abort the whole process, or be killed by the system, so the run is
a process of its own and this one watches it. Rows of a step stay; each restart computes at most
half as many of them at once, so that there can only be few. Nothing here loads MLX.
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

OUT_OF_MEMORY = 71
"""Exit code of a run that said itself that there was no memory left; EX_OSERR of sysexits.h."""

TOLD = "MLXT_SUPERVISED"
"""Names the file in which a watched process tells how far it came."""

ENDED = ".ended"
"""Ends the name of the file beside it, which is there once Python itself ended the run."""

MICROBATCH = "train.microbatch"

CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
"""What becomes of a failed allocation in a thread of MLX or of a BLAS."""

RUN = (
    "import sys; sys.argv[0] = 'mlxt'; from mlx_transformers.cli.main import main; "
    "from mlx_transformers.verbs.supervise import watched; watched(main)"
)
"""A run as a process of its own, with the name that its command has."""

GROUPS = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""Variables of the environment that say that a process is one of several."""


@dataclass(frozen=True)
class Told:
    """What a run says of itself.

    Attributes:
        rows: of a microbatch.
        accumulate: microbatches of a step.
        run: its folder; None while it has none.
        began: the checkpoint that it went on from, by name; None from the start.
    """

    rows: int
    accumulate: int
    run: str | None = None
    began: str | None = None


@dataclass(frozen=True)
class Command:
    """The words of `mlxt train`, as far as a restart changes or repeats them."""

    recipe: str
    sets: tuple[str, ...] = ()
    name: str | None = None
    resume: str | None = None
    runs: str = "runs"

    def words(self) -> list[str]:
        """The command line after `mlxt`."""
        found = ["train", self.recipe, "--runs", self.runs]
        found += ["--name", self.name] if self.name else []
        found += ["--resume", self.resume] if self.resume else []
        return found + [word for each in self.sets for word in ("--set", each)]

    def again(self, told: Told, rows: int) -> "Command":
        """The command that goes on where a run was, with so many rows at once."""
        sets = [s for s in self.sets if s.partition("=")[0].strip() != MICROBATCH]
        going_on = replace(self, sets=(*sets, f"{MICROBATCH}={rows}"))
        folder = Path(told.run) if told.run else None
        if folder is None or not (folder / "recipe.toml").is_file():
            return going_on  # its first step failed: it left nothing
        if last_saved(folder) in (None, told.began) and self.resume not in (None, "auto"):
            return going_on  # nothing new was saved: from where the user said
        return replace(going_on, name=None, resume=told.run)


def tell(told: Told) -> None:
    """In a watched process: leave word for the one that watches; nothing in any other."""
    if place := os.environ.get(TOLD):
        partial = Path(f"{place}.partial")
        partial.write_text(json.dumps(asdict(told)), encoding="utf-8")
        os.replace(partial, place)


def watched(run: Callable[[], None]) -> None:
    """A command in a process that is watched: where it fails the process ends at once.

    Libraries say goodbye to their threads when Python ends, and one that has no memory for it
    (mlx-data's) waits for ever. Whoever watches would wait with it. What comes to an end here says
    so in a file beside TOLD's: a library that has no memory may end a process without a word.
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
        if place := os.environ.get(TOLD):
            Path(place + ENDED).touch()
    if code:
        os._exit(code)


def last_saved(run: Path) -> str | None:
    """The name of a run's newest checkpoint."""
    pointer = run / "checkpoints" / "last"
    return pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else None


def smaller(rows: int) -> int:
    """Half of the rows; where that is none of their divisors, the next that is."""
    return next(rows // n for n in range(2, rows + 1) if rows % n == 0)


def supervise(command: Command, say: Callable[[str], None] = print) -> int:
    """Run a training, again with fewer rows at once whenever memory ended it; its exit code.

    Raises:
        RunError: this process is one of a group, whose members can't be restarted alone.
    """
    if group := next((name for name in GROUPS if name in os.environ), None):
        raise RunError(
            f"--supervise restarts one process, and this is one of several ({group} is set): the "
            f"others would wait for it. Leave it out, and give {MICROBATCH} a smaller number."
        )
    with tempfile.TemporaryDirectory(prefix="mlxt-") as folder:
        place = Path(folder) / "told.json"
        while True:
            for old in (place, Path(f"{place}{ENDED}")):
                old.unlink(missing_ok=True)
            code, asked = attempt(command.words(), place)
            why = ended_by(code, silent=not Path(f"{place}{ENDED}").exists())
            if why is None or asked:
                return 128 - code if code < 0 else code
            told = Told(**json.loads(place.read_text("utf-8"))) if place.is_file() else None
            if told is None or told.rows == 1:
                say(gave_up(why, told))
                return 128 - code if code < 0 else code
            rows = smaller(told.rows)
            say(goes_on(why, told, rows))
            command = command.again(told, rows)
            say(f"Supervised: mlxt {shlex.join(command.words())}")


def ended_by(code: int, silent: bool = False) -> str | None:
    """How memory ended a process with this exit code, in words; None where it didn't.

    Args:
        code: as `subprocess` has it, a signal's negative.
        silent: whether something below Python ended it, as OpenBLAS (1) and glibc (127) do
            where they have no memory for a buffer or a thread.
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


def goes_on(why: str, told: Told, rows: int) -> str:
    """What happens next, in a sentence."""
    saved = last_saved(Path(told.run)) if told.run else None
    place = f"from {saved}" if saved else "from the start"
    more = told.rows * told.accumulate // rows
    return (
        f"{why}. It goes on {place} with {more} microbatches of {rows} rows instead of "
        f"{told.accumulate} of {told.rows}: a step still learns from {rows * more} rows."
    )


def gave_up(why: str, told: Told | None) -> str:
    """Why there is no other attempt, in a sentence."""
    if told is None:
        return f"{why} before its first batch, so smaller microbatches would not help."
    return (
        f"{why} with one row at a time, so there is nothing left to halve. Shorten train.seq_len, "
        "set train.recompute=all, or take a smaller model."
    )


def attempt(words: Sequence[str], place: Path) -> tuple[int, bool]:
    """One run as a process of its own; its exit code, and whether it was asked to stop.

    Ctrl-C on a terminal reaches both processes. Any other signal is passed on.
    """
    asked = False
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *words], env={**os.environ, TOLD: str(place)}
    )

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if number != signal.SIGINT or not on_terminal():
            process.send_signal(number)

    held = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait(), asked
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)


def on_terminal() -> bool:
    """Whether Ctrl-C on a terminal would reach this process and what it started."""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
