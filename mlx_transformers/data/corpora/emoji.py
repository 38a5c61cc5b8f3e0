"""Names of emoji in several languages: short phrases for a first try at translation."""

import json
from collections.abc import Iterator
from typing import ClassVar

from .records import PackagedCorpus, Row, package

PACKAGE = package(
    "emoji", "2.16.0", "c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330"
)
FOLDER = "emoji/unicode_codes/"
QUALIFIED = 2
"""The status of a fully qualified emoji."""


class _Emoji(PackagedCorpus):
    licence = "BSD-3-Clause; names from Unicode CLDR"
    attribution = "emoji 2.16.0, (c) Taehoon Kim, Kevin Wurster; Unicode CLDR, (c) Unicode, Inc."
    size = "2 thousand phrases, 0.6 MB to download"
    packages = (PACKAGE,)
    language: ClassVar[str]

    def rows(self) -> Iterator[Row]:
        english = json.loads(PACKAGE.read(f"{FOLDER}emoji.json")[f"{FOLDER}emoji.json"])
        names_file = f"{FOLDER}emoji_{self.language}.json"
        names = json.loads(PACKAGE.read(names_file)[names_file])
        for sign, about in english.items():
            if about["status"] == QUALIFIED and "skin_tone" not in about["en"] and sign in names:
                yield {"source": words(about["en"]), "target": words(names[sign])}


class EmojiGerman(_Emoji):
    """English names of emoji (`source`) and their German ones (`target`)."""

    name = "emoji_de"
    language = "de"
    content = "e34f3e9a320c51dff1c55c9db1d247afdc30b3c973ae14a2b9bdcc70de0cc5fa"


class EmojiFrench(_Emoji):
    """English names of emoji (`source`) and their French ones (`target`)."""

    name = "emoji_fr"
    language = "fr"
    content = "fdb91c77b534b266c9372e60691ca6118c8206a20eae64ab56bae5a1392f9098"


def words(name: str) -> str:
    """Return the name of an emoji as words."""
    return name.strip(":").replace("_", " ")
