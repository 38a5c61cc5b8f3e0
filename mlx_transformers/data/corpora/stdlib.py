"""The Python standard library as text."""

import os
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from ...core.errors import DataError
from ..files import digest_files
from ..pieces import Piece, cut
from .corpus import Corpus


class Stdlib(Corpus):
    """The standard library of the running Python, without its tests: 11 MB of source code.

    A document is a file. The text depends on the Python version, which the manifest records.
    """

    name = "stdlib"
    licence = "PSF-2.0"
    attribution = "The Python standard library, (c) Python Software Foundation"
    size = "11 MB"
    SKIPPED = frozenset(
        {
            "test",
            "tests",
            "idle_test",
            "site-packages",
            "dist-packages",
            "lib-dynload",
            "__pycache__",
        }
    )

    @cached_property
    def files(self) -> list[Path]:
        """Its files, sorted by name."""
        root = Path(sysconfig.get_paths()["stdlib"])
        files = list[Path]()
        for folder, below, names in os.walk(root):
            below[:] = [name for name in below if name not in self.SKIPPED]
            sources = (n for n in names if n.endswith(".py") and not n.startswith("_sysconfigdata"))
            files += [Path(folder, name) for name in sources]
        if not files:
            raise DataError(f"This Python keeps no library sources in {root}; use data.path=FILE.")
        return sorted(files, key=lambda path: path.relative_to(root).as_posix())

    def pieces(self) -> Iterator[Piece]:
        for path in self.files:
            with tokenize.open(path) as file:
                yield from cut([file.read()], str(path))

    def identity(self) -> object:
        version = ".".join(map(str, sys.version_info[:3]))
        stats = [path.stat() for path in self.files]
        return [
            version,
            len(stats),
            sum(stat.st_size for stat in stats),
            max(stat.st_mtime_ns for stat in stats),
        ]

    def digest(self) -> str:
        return digest_files(self.files)

    def n_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    @classmethod
    def available(cls) -> bool:
        return True
