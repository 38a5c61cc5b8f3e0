"""Corpora that are generated from a seed: synthetic tasks, each a record per example."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np
from pydantic import Field

from ...recipe.config import Config
from .configured import Configured
from .records import RecordCorpus, Row


class Settings(Config):
    """Settings of a generated corpus, the table `data.settings` of a recipe."""

    n_examples: int = Field(20000, ge=20)
    """Examples, those held out included."""
    seed: int = 0
    """Seed of the examples."""


class GeneratedCorpus(RecordCorpus, Configured):
    """Examples drawn from a seed. Equal examples land on the same side of a split, so that no
    example that is held out was seen in training."""

    config: ClassVar[type[Settings]]
    settings: Settings
    version: ClassVar[int] = 1
    """Raised whenever it gives other examples for the same settings."""

    licence = "generated: no licence applies"
    attribution = "mlxt"
    size = "generated, no download"

    @classmethod
    def available(cls) -> bool:
        return True

    @abstractmethod
    def example(self, rng: np.random.Generator) -> Row:
        """Draw one example."""

    def rows(self) -> Iterator[Row]:
        for number in range(self.settings.n_examples):
            yield self.example(np.random.default_rng([self.settings.seed, number]))

    @cached_property
    def _described(self) -> list[object]:
        return [self.name, self.version, self.settings.model_dump()]

    def identity(self) -> object:
        return self._described

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self._described, sort_keys=True).encode()).hexdigest()


def spanned(parts: list[tuple[str, bool]]) -> Row:
    """Return the record of words and whether each is predicted: its text, joined by spaces, and the
    spans of predicted words in characters."""
    spans, at = [], 0
    for word, predicted in parts:
        if predicted:
            spans.append([at, at + len(word)])
        at += len(word) + 1
    return {"text": " ".join(word for word, _ in parts), "spans": spans}
