"""Shared bases of the built-in corpora of records."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar

from ...core.errors import DataError
from ..pieces import Piece
from ..shards import Split
from ..wheel import RECORDS_CURE, Wheel
from .corpus import Corpus

Row = dict[str, Any]


class RecordCorpus(Corpus):
    """Records with named fields, which can also be read as documents: their `text` field if there
    is one, so that labels don't leak into the text, else all fields, one per line."""

    @abstractmethod
    def rows(self) -> Iterable[Row]:
        """Return its records in order, the same every time."""

    def group(self, row: Row) -> str | None:
        """Return the group of a record, which stays on one side of a split; None: its own text
        decides."""
        return None

    def split(self, row: Row) -> Split | None:
        """Return the split of a record, where the corpus says what is held out; None: a hash of
        its group or text decides."""
        return None

    @cached_property
    def records(self) -> list[Row]:
        """All records.

        Raises:
            DataError: they can't be downloaded or read.
        """
        return list(self.rows())

    def pieces(self) -> Iterator[Piece]:
        for number, row in enumerate(self.records):
            fields = [value for value in row.values() if isinstance(value, str)]
            text = row.get("text")
            joined = text if isinstance(text, str) else "\n".join(fields)
            # A text lands on the same side of a split whether read as a document or as a record.
            group = self.group(row) or (text if isinstance(text, str) else None)
            where = f"{self.name}, record {number}"
            split = self.split(row)
            yield Piece(f"{joined}\n", where=where, record=row, group=group, split=split)

    def digest(self) -> str:
        return digest_of(self.records)


class PackagedCorpus(RecordCorpus):
    """Records read from pinned packages."""

    packages: ClassVar[tuple[Wheel, ...]]
    """The packages that hold them."""
    content: ClassVar[str]
    """The expected `content_digest`, which an installed copy of the packages has to match too."""

    @cached_property
    def records(self) -> list[Row]:
        records = list(self.rows())
        if self.content_digest(records) != self.content:
            packages = ", ".join(package.pinned for package in self.packages)
            raise DataError(f"The records in {packages} are not the ones expected. {RECORDS_CURE}")
        return [self.changed(row) for row in records]

    def content_digest(self, records: list[Row]) -> str:
        """Return the digest that is compared with `content`."""
        return digest_of(records)

    def changed(self, row: Row) -> Row:
        """Return a record as the corpus gives it, made of the one in its packages."""
        return row

    def identity(self) -> object:
        return [[p.package, p.version, p.sha256] for p in self.packages] + [self.content]

    @classmethod
    def available(cls) -> bool:
        return all(package.available() for package in cls.packages)


def digest_of(records: Iterable[Row]) -> str:
    """Return the SHA-256 of records, in hexadecimal."""
    total = hashlib.sha256()
    for row in records:
        total.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return total.hexdigest()


def package(name: str, version: str, sha256: str) -> Wheel:
    """Return a wheel whose download errors suggest a corpus of records without a download."""
    return Wheel(name, version, sha256, RECORDS_CURE)


def one_line(text: str) -> str:
    """Return text with every run of white space replaced by one space."""
    return " ".join(text.split())
