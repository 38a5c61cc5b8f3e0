"""Flushes files to the disk, so that a power cut can't lose them."""

import contextlib
import fcntl
import os
from pathlib import Path

FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""On macOS fsync leaves data in the drive's cache; this flushes it."""


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        sync_handle(handle)
    finally:
        os.close(handle)


def sync_handle(handle: int) -> None:
    """Flush an open file to the disk."""
    if FULL_SYNC is not None:
        with contextlib.suppress(OSError):  # not every file system has it
            fcntl.fcntl(handle, FULL_SYNC)
            return
    os.fsync(handle)
