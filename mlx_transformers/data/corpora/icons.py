"""Icons of several sets with their names: a name has several pictures, one in each set."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from ..shards import Split
from .glyphs import DrawnCorpus, Pen
from .records import Row, package

PACKAGE = package(
    "qtawesome", "1.4.2", "dbf08524428fa2df73918ce362153254cd44f089380576d84bfaad8f40eece45"
)
FOLDER = "qtawesome/fonts/"
SETS = {
    "material": ("materialdesignicons6-webfont", "6.9.96"),
    "phosphor": ("phosphor", "1.3.0"),
    "remix": ("remixicon", "2.5.0"),
    "awesome": ("fontawesome6-solid-webfont", "6.7.2"),
}
"""File names and versions of the fonts."""
HELD_OUT = "awesome"


class Icons(DrawnCorpus):
    """Icons of four sets, 32 x 32 grey (`image`), and their names (`text`); one set is held out.

    Material Design Icons, Phosphor and Remix Icon train; Font Awesome, by another artist,
    validates. Names are words with spaces, those of a style too: "arrow left bold".
    """

    name = "icons"
    licence = (
        "Apache-2.0 (Material, Remix), MIT (Phosphor, the package), OFL and CC-BY-4.0 (Awesome)"
    )
    attribution = (
        "Pictogrammers, Phosphor Icons, Remix Design, Fonticons Inc. (Font Awesome Free); "
        "qtawesome 1.4.2, (c) The Spyder development team"
    )
    size = "15 thousand pictures, 2.6 MB to download"
    packages = (PACKAGE,)
    content = "0e6fac9ff7fcac63af45481f5a8447279a54bd9adb0bcd0a5f5f4741dadbbd32"

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        fonts = "|".join(f"{re.escape(f)}(-charmap)?-{re.escape(v)}" for f, v in SETS.values())
        return PACKAGE.matching(rf"{FOLDER}({fonts})\.(ttf|json)$")

    def rows(self) -> Iterator[Row]:
        for name, (font, version) in SETS.items():
            pen = Pen(self.files[f"{FOLDER}{font}-{version}.ttf"], 1)
            codes = json.loads(self.files[f"{FOLDER}{font}-charmap-{version}.json"])
            for title, code in codes.items():
                if len(title) == 1:  # letters and digits of the font, not icons
                    continue
                image = pen.draw(chr(int(code, 16)))
                if image is not None:
                    yield {"image": image, "text": title.replace("-", " "), "set": name}

    def split(self, row: Row) -> Split:
        return "valid" if row["set"] == HELD_OUT else "train"
