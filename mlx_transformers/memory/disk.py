"""Predicts the time that optimizer state and gradients on a disk add to a step.

A step reads and writes the whole state; each microbatch writes and reads all gradients. The
prediction is an upper bound: writes overlap with the computation, and with memory to spare the
system serves the file from its cache.
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
TRIAL_BYTES = 64 * 2**20
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
        """Upper bound of the time added to a step."""
        return self.step_bytes / self.bytes_per_s

    def slowdown(self, step_s: float) -> float:
        """Time of a step relative to `step_s`, its time with the state in memory."""
        return 1 + self.seconds / step_s


def paging(state: float, gradients: float, accumulate: int, folder: Path | None) -> Paging:
    """Return the disk traffic of a step.

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

    Reading is not measured: the system would serve a file just written from its cache, and an SSD
    reads at least as fast as it writes.
    """
    place = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
    data = os.urandom(TRIAL_BYTES)
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            began = time.perf_counter()
            file.write(data)
            sync_handle(file.fileno())
            return TRIAL_BYTES / (time.perf_counter() - began)
    except OSError:
        return None
