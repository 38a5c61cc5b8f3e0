"""Durable writes: data synced to disk, and files replaced atomically."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import RunError
from ..core.sync import sync, sync_handle


def partial_of(path: Path) -> Path:
    """The temporary name under which `replace_text` writes, beside the file that a link leads to."""
    file = Path(os.path.realpath(path))
    return file.with_name(f".{file.name}.partial")


def replace_text(path: Path, text: str) -> None:
    """Replace a small file atomically: it holds the old text or the new, never a part.

    A link stays, and the file that it leads to is replaced.

    Raises:
        OSError: it can't be written; the old file is as it was.
    """
    partial = partial_of(path)
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            sync_handle(file.fileno())
        os.replace(partial, os.path.realpath(path))
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync(partial.parent)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path`, such as a full disk, into a sentence.

    Raises:
        RunError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} can't be written: {error.strerror or error}. Checkpoints saved before are "
            "intact: when it can be written again, continue with --resume."
        ) from error
