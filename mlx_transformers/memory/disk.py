"""The time that optimizer state and gradients on a disk add to a step.

Each step reads all of the state and writes it; each microbatch writes all gradients, which are read
once more. Writing goes on behind the computation, and a system with memory to spare keeps the file
in its cache, so the time is an upper bound of what the disk costs.
"""

import os
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..core.sync import sync_handle

ASSUMED = 2e9
"""Assumed bytes per second of the SSD of a Mac that is not at hand."""
TRIED = 64 * 2**20
"""Bytes that are written to measure a disk."""


@dataclass(frozen=True)
class Paging:
    """Traffic of a step with the disk that holds its optimizer state and gradients.

    Attributes:
        file_bytes: size of the file: optimizer state and gradients.
        step_bytes: bytes that a step reads and writes.
        bytes_per_s: bandwidth of the disk.
        measured: whether it was measured here, and not assumed.
    """

    file_bytes: float
    step_bytes: float
    bytes_per_s: float
    measured: bool

    @property
    def seconds(self) -> float:
        """Time that a step takes longer at most."""
        return self.step_bytes / self.bytes_per_s

    def slowdown(self, step_s: float) -> float:
        """How many times as long a step takes that took `step_s` with its state in memory."""
        return 1 + self.seconds / step_s


def paging(state: float, gradients: float, accumulate: int, folder: Path | None) -> Paging:
    """Return what a step moves.

    Args:
        state, gradients: their bytes.
        accumulate: microbatches of a step.
        folder: a folder on the disk, whose speed is measured; None assumes an SSD.
    """
    speed = None if folder is None else write_speed(folder)
    moved = 2 * state + 2 * accumulate * gradients
    return Paging(state + gradients, moved, speed or ASSUMED, measured=speed is not None)


@cache
def write_speed(folder: Path) -> float | None:
    """Bytes per second that the disk of a folder writes; None if nothing can be written there.

    Reading is at least as fast on an SSD, and what was just written can't be read from the disk
    itself, since it is in the system's cache.
    """
    place = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
    data = os.urandom(TRIED)
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            began = time.perf_counter()
            file.write(data)
            sync_handle(file.fileno())
            return TRIED / (time.perf_counter() - began)
    except OSError:
        return None
