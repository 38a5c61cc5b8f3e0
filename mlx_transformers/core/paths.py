"""Checks names that become paths, wherever they come from: a command line, a recipe, a file; spells
them in commands; and walks and deletes folders that other processes change meanwhile."""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .errors import MlxtError


def plain_name(name: str, what: str, error: type[MlxtError] = MlxtError) -> str:
    """Return `name` if it can name one file or folder.

    Args:
        name: the name to check.
        what: what it names, for the message: "a run".
        error: the class of the error to raise.

    Raises:
        MlxtError: it is empty, has a slash, a control character or bytes that are not UTF-8, or
            means a folder itself.
    """
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise error(f"'{shown(name)}' can't name {what}: give a plain name, without slashes.")
    if shown(name) != name:
        raise error(
            f"'{shown(name)}' can't name {what}: it has control characters or bytes that are not "
            "UTF-8. Use letters, digits, '-', '_' and '.'."
        )
    return name


def command_line(*words: object) -> str:
    """Spell a command of mlxt as a shell reads it, for messages: names may have spaces."""
    return shlex.join(["mlxt", *map(str, words)])


def inside(folder: Path, name: str, error: type[MlxtError] = MlxtError) -> Path:
    """The path of `name` below `folder`, for names that were read from a file.

    Raises:
        MlxtError: it is absolute, goes up with "..", or leads out of the folder by a link.
    """
    path = folder / name
    relative = Path(name)
    out = relative.is_absolute() or ".." in relative.parts or not name or "\0" in name
    if out or not _is_below(path, folder):
        raise error(
            f"{shown(str(folder))} names the file '{shown(name)}', which lies outside of it: "
            "it was damaged or made to do harm. Nothing was read or written."
        )
    return path


def _is_below(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # links that lead to themselves
        return False


def remove_tree(folder: Path) -> None:
    """Delete a folder with all that it holds, even while another process deletes it too.

    Raises:
        OSError: the system refuses.
    """
    while os.path.lexists(folder):
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def files_below(folder: Path, *, follow_links: bool = False) -> Iterator[os.stat_result]:
    """The status of every file below a folder; those that vanish meanwhile are left out.

    A link counts as itself, or with `follow_links` as the file that it leads to, if there is one.
    Linked folders aren't walked.
    """
    for above, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a link to itself, too, leads to no file
                yield os.stat(os.path.join(above, name), follow_symlinks=follow_links)


def expanded(path: str | Path) -> Path:
    """Return a path with `~` as the home folder.

    Raises:
        MlxtError: there is no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise MlxtError(
            f"There is no home folder for the ~ in '{shown(str(path))}': set $HOME, or write the "
            "path in full."
        ) from None


def shown(name: str) -> str:
    """A name as it can be printed: control characters and undecodable bytes as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
