"""Sentences with sentiment ratings by people."""

import io
import tarfile
from collections.abc import Iterator

from ..wheel import RECORDS_CURE, Sdist
from .records import PackagedCorpus, Row

PACKAGE = Sdist(
    "vaderSentiment",
    "3.3.2",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    RECORDS_CURE,
)
TRUTH = "_GroundTruth.txt"
CLEAR = 0.5
"""Sentences with a mean rating closer to zero are left out as neutral."""


class Sentiment(PackagedCorpus):
    """Sentences of reviews, editorials and tweets (`text`), positive or negative (`label`).

    Rated by about twenty people each from -4 to 4; means between -0.5 and 0.5 are left out.
    Hutto & Gilbert 2014 (VADER), section 4.
    """

    name = "sentiment"
    licence = "MIT"
    attribution = "vaderSentiment 3.3.2, (c) 2016 C.J. Hutto"
    size = "19 thousand sentences, 2.5 MB to download"
    packages = (PACKAGE,)
    content = "f116f126da966a08e25ba30922e8eca477ddd4d90c21cd33f4caf4b948593865"

    def rows(self) -> Iterator[Row]:
        (data,) = PACKAGE.read("hutto_ICWSM_2014.tar.gz").values()
        seen: set[str] = set()
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = [m for m in archive.getmembers() if m.name.endswith(TRUTH)]
            for member in sorted(members, key=lambda member: member.name):
                file = archive.extractfile(member)
                kind = member.name.rsplit("/", 1)[-1].removesuffix(TRUTH)
                text = (file.read() if file else b"").decode("utf-8", "replace")
                for line in filter(str.strip, text.split("\n")):
                    _, mean, sentence = line.split("\t", 2)
                    sentence = sentence.strip()
                    if abs(float(mean)) >= CLEAR and sentence not in seen:
                        seen.add(sentence)
                        label = "positive" if float(mean) > 0 else "negative"
                        yield {"text": sentence, "label": label, "from": kind}
