"""Numbers and words spoken by the voices of this machine."""

import base64
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from ..sound.read import wav_bytes
from ..sound.speak import find_speaker, need_speaker
from .generated import GeneratedCorpus, Settings
from .records import Row

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
COLOURS = ("red", "green", "blue", "black", "white", "brown", "orange", "yellow")
THINGS = ("apple", "house", "river", "cat", "table", "bird", "window", "garden", "paper", "dog")
COUNTS = len(ONES)
"""Numbers of things that a phrase may count, from zero."""


class SpokenSettings(Settings):
    """Settings of `spoken`."""

    n_examples: int = Field(2000, ge=20, le=20000)
    """Phrases, each said once, those held out included."""
    largest: int = Field(9999, ge=99, le=9999)
    """Largest number that is said."""
    slowest: int = Field(130, ge=80)
    """Words a minute of the slowest speech."""
    fastest: int = Field(190, le=400)
    """Words a minute of the fastest speech."""

    @model_validator(mode="after")
    def _speeds_ascend(self) -> "SpokenSettings":
        if self.slowest > self.fastest:
            raise ValueError(f"slowest {self.slowest} is above fastest {self.fastest}")
        return self

    @model_validator(mode="after")
    def _enough_phrases(self) -> "SpokenSettings":
        things = len(COLOURS) * len(THINGS)
        phrases = self.largest + 1 + things + COUNTS * things
        if self.n_examples > phrases:
            raise ValueError(
                f"n_examples = {self.n_examples} is more than the {phrases} phrases that there are "
                f"with largest = {self.largest}: take fewer, or raise largest (9999 at most)."
            )
        return self


class Spoken(GeneratedCorpus):
    """Numbers and words spoken by this machine: `audio`, a WAV file as text, and what it says.

    A voice is held out as a whole, and no phrase is said twice, so that held-out voices say phrases
    that were never heard. It needs `say` (macOS) or eSpeak NG.
    """

    name = "spoken"
    config: ClassVar[type[Settings]] = SpokenSettings
    settings: SpokenSettings
    size = "generated, spoken by this machine"

    @classmethod
    def available(cls) -> bool:
        return find_speaker() is not None

    def rows(self) -> Iterator[Row]:
        speaker, s = need_speaker(), self.settings
        rng = np.random.default_rng(s.seed)
        phrases: set[str] = set()
        while len(phrases) < s.n_examples:
            text = phrase(rng, s.largest)
            if text in phrases:
                continue
            phrases.add(text)
            voice = speaker.voices[rng.integers(len(speaker.voices))]
            samples = speaker.say(text, voice, int(rng.integers(s.slowest, s.fastest + 1)))
            wav = base64.b64encode(wav_bytes(samples)).decode()
            yield {"text": text, "audio": f"data:audio/wav;base64,{wav}", "voice": voice}

    def example(self, rng: np.random.Generator) -> Row:
        raise NotImplementedError("Phrases depend on those before them: see `rows`.")

    def group(self, row: Row) -> str | None:
        return str(row["voice"])

    def identity(self) -> object:
        speaker = find_speaker()
        return [super().identity(), speaker.name if speaker else None]


def phrase(rng: np.random.Generator, largest: int) -> str:
    """Draw a number up to `largest`, or things of a colour, counted or not."""
    digits = int(rng.integers(1, len(str(largest)) + 1))
    number = in_words(int(rng.integers(0, min(10**digits, largest + 1))))
    if rng.random() < 0.5:
        return number
    words = [ONES[rng.integers(0, COUNTS)], COLOURS[rng.integers(8)], THINGS[rng.integers(10)]]
    return " ".join(words[int(rng.integers(0, 2)) :])


def in_words(n: int) -> str:
    """Return a number from 0 to 9999 in English words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f" {ONES[n % 10]}" if n % 10 else "")
    size, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    rest = n % size
    return f"{in_words(n // size)} {name}" + (f" {in_words(rest)}" if rest else "")
