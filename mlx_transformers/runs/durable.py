"""Writes that are on the disk when they return, and names that change in one step."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import RunError

FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: its fsync leaves data in the drive's own cache; this doesn't."""


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk and not only in a cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        sync_handle(handle)
    finally:
        os.close(handle)


def sync_handle(handle: int) -> None:
    """As `sync`, of an open file."""
    if FULL_SYNC is not None:
        with contextlib.suppress(OSError):  # not every file system has it
            fcntl.fcntl(handle, FULL_SYNC)
            return
    os.fsync(handle)


def replace_text(path: Path, text: str) -> None:
    """Write a small file that holds the old text or the new, never a part of either."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        sync_handle(file.fileno())
    os.replace(partial, path)
    sync(path.parent)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in a sentence what a full or read-only disk does to a file of a run.

    Raises:
        RunError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} can't be written: {error.strerror or error}. Checkpoints saved before are "
            "whole: when there is space again, continue with --resume."
        ) from error
