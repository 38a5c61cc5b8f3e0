"""Progress display before the first step: a bar or spinner on a terminal, else plain lines."""

import sys
import time
from types import TracebackType

from ..core.terminal import is_terminal
from .terminal import console

EVERY_S = 10.0
"""Seconds between two lines of one stage without a terminal."""


def watch() -> "Bar | Lines":
    """Return a context manager that shows the progress of `prepare` and prints messages."""
    return Bar() if is_terminal(sys.stderr) else Lines()


class Lines:
    """Prints a line when a stage begins, and one every few seconds while it lasts."""

    def __init__(self) -> None:
        self.what = ""
        """The last stage of the preparation; empty if nothing had to be done."""
        self.busy = False
        self.printed = 0.0

    def __enter__(self) -> "Lines":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if kind is KeyboardInterrupt and self.busy:
            console(err=True).print(
                f"Interrupted while preparing the data ({self.what}). No run was started; the same "
                "command goes on from here."
            )

    def say(self, text: str) -> None:
        """Print a message about the run."""
        self.busy = False
        print(text, flush=True)

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Show a progress report of `prepare`."""
        now = time.monotonic()
        going_on = what == self.what
        if going_on and now - self.printed < EVERY_S:
            return
        self.what, self.busy, self.printed = what, True, now
        share = f" {min(1.0, done / total):.0%}" if total and going_on else ""
        print(f"Preparing the data: {what}{share}", file=sys.stderr, flush=True)


class Bar(Lines):
    """A progress bar, indeterminate if the total is unknown."""

    def __init__(self) -> None:
        super().__init__()
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("Preparing the data: {task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[size]}"),
            TimeElapsedColumn(),
            console=console(err=True),
            transient=True,
            expand=True,
        )
        self.spinner = console(err=True).status("")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.bar.stop()
        self.spinner.stop()
        super().__exit__(kind, error, tb)

    def say(self, text: str) -> None:
        """Print a message about the run; one that ends in "..." is a spinner until the next."""
        self.bar.stop()
        self.spinner.stop()
        self.busy = False
        if text.endswith("..."):
            self.spinner.update(text)
            self.spinner.start()
        else:
            super().say(text)

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if not self.busy:
            self.bar.start()
        if what != self.what or not self.busy:
            self.what, self.busy = what, True
            for task in self.bar.task_ids:
                self.bar.remove_task(task)
            self.task = self.bar.add_task(what, total=total, size="")
        size = f"{done / 1e6:.1f}/{total / 1e6:.1f} MB" if total else ""
        self.bar.update(self.task, completed=done, total=total, size=size)
