"""Translated program messages, from compiled gettext catalogues."""

import re
import struct
from collections.abc import Iterator
from typing import ClassVar

from .records import PackagedCorpus, Row, one_line, package


class CataloguesFrench(PackagedCorpus):
    """English messages of five programs (`source`) and their French translations (`target`).

    Messages of three words or more, deduplicated ignoring case and punctuation; of plural forms,
    the first. Messages with the same translation are on the same side of a split.
    """

    name = "catalogues_fr"
    licence = "BSD-3-Clause, BSD-2-Clause, MIT"
    attribution = (
        "Message catalogues of JupyterLab, Django, Wagtail, Spyder and Sphinx, (c) their authors"
    )
    size = "5 thousand pairs, 37 MB to download"
    language: ClassVar[str] = "fr"
    packages = (
        package(
            "jupyterlab-language-pack-fr-FR",
            "4.5.post3",
            "9f6ce9d4e64b367ff084a2313af29d6ad8a02d1d08000f3e6c53e2856fa9a11f",
        ),
        package(
            "django",
            "5.2.19",
            "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
        ),
        package(
            "wagtail",
            "8.0.1",
            "1e6ad5c7891a54efce1400e168298b5a2cc343b642cee89c31bf5ec30c98b26c",
        ),
        package(
            "spyder",
            "6.1.8",
            "4da836742a7138c93392a8a0bd1a5ff40002cf92d217ef0e7bed11b522322f90",
        ),
        package(
            "sphinx",
            "8.2.3",
            "4405915165f13521d875a8c29c8970800a0141c14cc5416a38feca4ea5d9b9c3",
        ),
    )
    content = "c98ca4f64b202f2652d2c03cd4946697da405b32848c6dcb60c9efb952d3c2d7"

    def rows(self) -> Iterator[Row]:
        seen: set[str] = set()
        for wheel in self.packages:
            pattern = rf"/{self.language}(_[A-Z]+)?/LC_MESSAGES/\w+\.mo$"
            for catalogue in wheel.matching(pattern).values():
                for source, target in messages(catalogue):
                    same = _letters(source)
                    if len(source.split()) >= 3 and source != target and same not in seen:
                        seen.add(same)
                        yield {"source": source, "target": target}

    def group(self, row: Row) -> str:
        return _letters(row["target"])


def messages(catalogue: bytes) -> Iterator[tuple[str, str]]:
    """Yield the messages and translations of a compiled catalogue (GNU gettext manual, section
    10.3, "The format of GNU MO files"), with single spaces, without untranslated ones.

    Raises:
        ValueError: it is not a compiled catalogue.
    """
    magic = struct.unpack("<I", catalogue[:4])[0]
    order = {0x950412DE: "<", 0xDE120495: ">"}.get(magic)
    if order is None:
        raise ValueError("not a compiled message catalogue")
    count, sources, targets = struct.unpack(f"{order}3I", catalogue[8:20])

    def text(table: int, number: int) -> str:
        length, place = struct.unpack_from(f"{order}2I", catalogue, table + 8 * number)
        entry = catalogue[place : place + length].decode()
        # A context comes before the message, plural forms after it.
        return one_line(entry.rsplit("\x04", 1)[-1].split("\x00", 1)[0])

    for number in range(count):
        source, target = text(sources, number), text(targets, number)
        if source and target:
            yield source, target


def _letters(text: str) -> str:
    """Return a text without case and punctuation, or the text itself if nothing remains."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text
