"""Data sets from OpenAI's evals: headlines, named entities, spans of abstracts, instructions."""

import json
import re
from collections.abc import Iterator
from itertools import islice, zip_longest

from .records import PackagedCorpus, Row, one_line, package

PACKAGE = package(
    "evals", "3.0.1.post1", "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78"
)
ENTITY = re.compile(r"\s*(.+?) - (PERSON|ORGANIZATION|LOCATION)(?:,|$)")
SPAN = re.compile(r"'(.*?)'(?=, '|$)", re.DOTALL)
TASKS = ("soc_codes", "event_categories", "food", "quartz", "crepe")
"""Tasks of `instructions`."""
MOST = 400
"""Instructions of a task."""
QUESTION = "Which patients were studied?"


class Evals(PackagedCorpus):
    """Samples of a task, without duplicate texts."""

    licence = "MIT"
    packages = (PACKAGE,)

    def samples(self, task: str) -> Iterator[tuple[str, str]]:
        """Yield the texts of a task and their ideal answers."""
        (data,) = PACKAGE.read(f"data/{task}/samples.jsonl").values()
        seen: set[str] = set()
        for line in filter(str.strip, data.decode().split("\n")):
            sample = json.loads(line)
            text = sample["input"][-1]["content"].strip()
            if text not in seen:
                seen.add(text)
                yield text, sample["ideal"]


class Sarcasm(Evals):
    """Headlines (`text`), sarcastic or serious (`label`)."""

    name = "sarcasm"
    attribution = "The sarcasm samples of evals 3.0.1.post1, (c) 2023 OpenAI"
    size = "28 thousand headlines, 46 MB to download"
    content = "95c8f6b836eaaab7fe3ce7c36c615d83a7ec4f535d14f30e1740b2eeaf16886d"

    def rows(self) -> Iterator[Row]:
        labels = {"1": "sarcastic", "0": "serious"}
        for text, ideal in self.samples("sarcasm"):
            yield {"text": text, "label": labels[ideal]}


class Entities(Evals):
    """Sentences of contracts as `words`, and the `tags` of people, organizations and places.

    B- begins a name, I- continues it, O is outside (Ramshaw & Marcus 1995; Tjong Kim Sang 2002).
    """

    name = "entities"
    attribution = "The ner_finance samples of evals 3.0.1.post1, (c) 2023 OpenAI"
    size = "1 thousand sentences, 46 MB to download"
    content = "b798ca1b4da22acf0f766e4984e26011c6e72c7de30b75bb87065becadf2eb72"

    def rows(self) -> Iterator[Row]:
        for text, ideal in self.samples("ner_finance"):
            names = ENTITY.findall(ideal.strip().strip("[]")) if ideal.startswith("[") else []
            words = text.split(" ")
            yield {"text": text, "words": words, "tags": tags(words, names)}


class Populations(Evals):
    """Abstracts of clinical trials (`context`), and the span about the participants (`answer`).

    It is the first such span; the `question` is always the same."""

    name = "populations"
    attribution = "The population_span_extraction samples of evals 3.0.1.post1, (c) 2023 OpenAI"
    size = "500 abstracts, 46 MB to download"
    content = "565aa245f716b1a54ea25a0de71d20a4a5a7a8d9674a33399e6142e7684cabe4"

    def rows(self) -> Iterator[Row]:
        for text, ideal in self.samples("population_span_extraction"):
            context = one_line(text)
            spans = [one_line(span) for span in SPAN.findall(ideal)]
            answers = [span for span in spans if span and span in context]
            if answers:
                yield {"question": QUESTION, "context": context, "answer": answers[0]}


def tags(words: list[str], names: list[tuple[str, str]]) -> list[str]:
    """Return a BIO tag per word, for names `(name, kind)` in the order of the text.

    Raises:
        ValueError: a name is not in the text.
    """
    text, out, at = " ".join(words), ["O"] * len(words), 0
    for name, kind in names:
        match = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)").search(text, at)
        if match is None:
            raise ValueError(f"{name!r} is not in {text!r}.")
        at = match.end()
        first, last = text.count(" ", 0, match.start()), text.count(" ", 0, at)
        out[first : last + 1] = [f"B-{kind}", *[f"I-{kind}"] * (last - first)]
    return out


class Instructions(Evals):
    """Instructions of five tasks (`messages`): a system's, a user's, and the answer to give.

    Occupations, log entries, foods, questions of science and of consequences; at most 400 of a
    task, so that none prevails.
    """

    name = "instructions"
    attribution = "Samples of five tasks of evals 3.0.1.post1, (c) 2023 OpenAI"
    size = "2 thousand instructions, 46 MB to download"
    content = "0f61fbba7c9e25b74f9e78d785d1bf1187732ab79ca5e804509083861e0f36ca"

    def rows(self) -> Iterator[Row]:
        for rows in zip_longest(*(islice(self.conversations(task), MOST) for task in TASKS)):
            yield from filter(None, rows)

    def conversations(self, task: str) -> Iterator[Row]:
        """Yield the conversations of a task."""
        (data,) = PACKAGE.read(f"data/{task}/samples.jsonl").values()
        for line in filter(str.strip, data.decode().split("\n")):
            sample = json.loads(line)
            answer = {"role": "assistant", "content": sample["ideal"].strip()}
            turns = [
                {"role": turn["role"], "content": turn["content"].strip()}
                for turn in sample["input"]
            ]
            yield {"messages": [*turns, answer], "text": turns[-1]["content"]}
