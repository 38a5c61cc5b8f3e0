"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) ask a run to save and stop.

A second signal stops at once. Under `nohup`, which ignores SIGHUP, the run goes on.
"""

import signal
from types import FrameType, TracebackType
from typing import Any


class StopSignals:
    """Context manager whose `name` is the signal received inside it, or None."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._received)
        except ValueError:
            pass  # Not the main thread: its owner handles signals.
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
