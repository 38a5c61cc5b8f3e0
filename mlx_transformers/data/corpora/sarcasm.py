"""Headlines, meant or not."""

import json
from collections.abc import Iterator

from .records import PackagedCorpus, Row, package

PACKAGE = package(
    "evals", "3.0.1.post1", "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78"
)


class Sarcasm(PackagedCorpus):
    """Headlines (`text`), sarcastic or serious (`label`)."""

    name = "sarcasm"
    licence = "MIT"
    attribution = "The sarcasm samples of evals 3.0.1.post1, (c) 2023 OpenAI"
    size = "28 thousand headlines, 46 MB to download"
    packages = (PACKAGE,)
    content = "95c8f6b836eaaab7fe3ce7c36c615d83a7ec4f535d14f30e1740b2eeaf16886d"

    def rows(self) -> Iterator[Row]:
        (data,) = PACKAGE.read("data/sarcasm/samples.jsonl").values()
        labels = {"1": "sarcastic", "0": "serious"}
        seen: set[str] = set()
        for line in filter(str.strip, data.decode().split("\n")):
            sample = json.loads(line)
            text = sample["input"][-1]["content"].strip()
            if text not in seen:
                seen.add(text)
                yield {"text": text, "label": labels[sample["ideal"]]}
