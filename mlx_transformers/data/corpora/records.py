"""What built-in corpora of records have in common."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar

from ...core.errors import DataError
from ..pieces import Piece
from ..source import Source
from ..wheel import RECORDS_CURE, Wheel

Row = dict[str, Any]


class RecordCorpus(Source):
    """Records with named fields, which are also documents: the field `text` of those that have it,
    so that nothing of a label is read before it is asked for; else all fields, a line each."""

    size: ClassVar[str]
    """How much there is, for people."""

    @abstractmethod
    def rows(self) -> Iterable[Row]:
        """Its records in order, the same every time."""

    def group(self, row: Row) -> str | None:
        """What decides the side of a split, where it isn't the record's own text."""
        return None

    @cached_property
    def records(self) -> list[Row]:
        """All records.

        Raises:
            DataError: they can't be had.
        """
        return list(self.rows())

    def pieces(self) -> Iterator[Piece]:
        for number, row in enumerate(self.records):
            fields = [value for value in row.values() if isinstance(value, str)]
            text = row.get("text")
            words = text if isinstance(text, str) else "\n".join(fields)
            # A text is on the same side of a split, as a document and as an example.
            group = self.group(row) or (text if isinstance(text, str) else None)
            where = f"{self.name}, record {number}"
            yield Piece(f"{words}\n", where=where, record=row, group=group)

    def digest(self) -> str:
        total = hashlib.sha256()
        for row in self.records:
            total.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        return total.hexdigest()

    @classmethod
    @abstractmethod
    def available(cls) -> bool:
        """Whether it is here already."""


class PackagedCorpus(RecordCorpus):
    """Records inside pinned packages."""

    packages: ClassVar[tuple[Wheel, ...]]
    """Where they are."""
    content: ClassVar[str]
    """The digest of all records: what an installed copy gives has to match it as well."""

    @cached_property
    def records(self) -> list[Row]:
        found = list(self.rows())
        self.__dict__["records"] = found  # the digest reads them
        if self.digest() != self.content:
            del self.__dict__["records"]
            named = ", ".join(package.pinned for package in self.packages)
            raise DataError(f"The records in {named} are not the ones expected. {RECORDS_CURE}")
        return found

    def identity(self) -> Any:
        return [[p.package, p.version, p.sha256] for p in self.packages] + [self.content]

    @classmethod
    def available(cls) -> bool:
        return all(package.available() for package in cls.packages)


def package(name: str, version: str, sha256: str) -> Wheel:
    """A wheel whose absence is told with a corpus of records that needs no download."""
    return Wheel(name, version, sha256, RECORDS_CURE)


def one_line(text: str) -> str:
    """Text with every run of white space as one space."""
    return " ".join(text.split())
