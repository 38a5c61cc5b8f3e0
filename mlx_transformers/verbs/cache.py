"""Lists and cleans the cache: prepared data, compiled kernels, downloads, tokenizers."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core import jit
from ..core.cache import cache_folder
from ..core.errors import RunError, unknown
from ..core.paths import files_below, remove_tree


@dataclass(frozen=True)
class Part:
    """One kind of cached files.

    Attributes:
        name: what `mlxt cache clean` calls it.
        what: a description for people.
        folders: below the cache folder.
        remade: whether mlxt makes it again when it is missing.
    """

    name: str
    what: str
    folders: tuple[str, ...]
    remade: bool = True


PARTS = (
    Part("data", "prepared token shards", ("data",)),
    Part("kernels", "MLX kernels and the BLAS adapter, compiled for this CPU", ("jit", "lib")),
    Part("downloads", "corpora from the package registry", ("wheels",)),
    Part("tokenizers", "tokenizers that fine-tuned runs took over", ("tokenizers",), remade=False),
    Part("plans", "memory and power measured earlier", ("plans.json", "power.json"), remade=False),
)


@dataclass(frozen=True)
class Usage:
    """Disk usage of one part of the cache, in bytes, and its number of files."""

    part: Part
    bytes: int
    files: int


def usage() -> list[Usage]:
    """Measure every part of the cache."""
    return [_usage(part) for part in PARTS]


def chosen(names: Sequence[str]) -> list[Part]:
    """Return the named parts of the cache; without names, all that mlxt makes again when needed.

    Raises:
        RunError: a name is unknown.
    """
    parts = {part.name: part for part in PARTS}
    for name in names:
        if name not in parts:
            raise RunError(unknown("part of the cache", name, parts))
    return [parts[name] for name in names] or [part for part in PARTS if part.remade]


def clean(names: Sequence[str] = ()) -> tuple[int, list[Path]]:
    """Delete the named parts of the cache; without names, all that mlxt makes again when needed.

    Returns:
        Bytes freed, and data sets that stay since another process prepares them now.

    Raises:
        RunError: a name is unknown.
    """
    freed, busy = 0, []
    for part in chosen(names):
        for path in _entries(part):
            if _locked(path):
                busy.append(path)
                continue
            size = _size(path)
            if part.name == "kernels" and path.is_dir():
                jit.delete_kernels(path)
            else:
                remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)
            freed += size - _size(path)
    return freed, busy


def _entries(part: Part) -> list[Path]:
    """The files and folders that a part consists of, one for each data set."""
    tops = [cache_folder() / name for name in part.folders]
    entries = [top for top in tops if top.is_file()]
    for top in tops:
        entries += sorted(top.iterdir()) if top.is_dir() else []
    return entries


def _locked(path: Path) -> bool:
    """Whether another process holds the lock beside a data set, or this is a lock."""
    lock = path if path.suffix == ".lock" else path.with_name(f"{path.name}.lock")
    if not lock.is_file():
        return False
    with open(lock, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _usage(part: Part) -> Usage:
    sizes = [size for entry in _entries(part) for size in _sizes(entry)]
    return Usage(part, sum(sizes), len(sizes))


def _size(entry: Path) -> int:
    return sum(_sizes(entry))


def _sizes(entry: Path) -> Iterator[int]:
    """The bytes of each file of an entry."""
    if not entry.is_dir():
        with suppress(FileNotFoundError):  # another process cleans too
            yield entry.lstat().st_size
    for file in files_below(entry):
        yield file.st_size
