"""Runs one job at a time in a thread beside the training: the writing of a checkpoint."""

import threading
from collections.abc import Callable


class Background:
    """One job at a time, in a thread of its own.

    The error of a job is raised in the thread that waits for it, or looks whether it has ended.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Wait for the job before, then start this one.

        Raises:
            Exception: what the job before failed with; this one is not started.
        """
        self.wait()

        def run() -> None:
            try:
                job()
            except BaseException as error:
                self._error = error

        # No daemon: a program that ends because of an error elsewhere still writes to the end.
        self._thread = threading.Thread(target=run, name="checkpoint", daemon=False)
        self._thread.start()

    def check(self) -> None:
        """Raise what a job failed with that has ended; doesn't wait."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait for the job, and raise what it failed with."""
        if self._thread is not None:
            self._thread.join()
        self._thread, error, self._error = None, self._error, None
        if error is not None:
            raise error
