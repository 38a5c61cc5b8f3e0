"""Atomic writes to the cache, and locks between processes."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.sync import sync, sync_handle


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: to a temporary file, synced and renamed."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        sync_handle(file.fileno())
    os.replace(partial, path)
    sync(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write a JSON value atomically, indented."""
    write_whole(
        path,
        (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace"),
    )


def keep_json(path: Path, value: object) -> None:
    """Replace a JSON file, which other processes may replace too; it stays as it is, and nothing
    is left behind, where the cache can't be written."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; other processes wait until it is released."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
