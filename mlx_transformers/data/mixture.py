"""Mixtures of texts: which text each row of a training stream is cut from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from .kinds import Rows
from .order import golden
from .shards import Batch
from .text_source import TextSource

LABEL = r"^[A-Za-z][A-Za-z0-9_.-]*$"


class MixedText(TextSource):
    """One more text of a mixture, and its share of the rows; the text of `[data]` has the rest."""

    table: ClassVar[str] = "data.mixture"

    name: str = Field(pattern=LABEL)
    """The name by which the log counts its tokens and evaluations give its loss."""
    weight: float = Field(ge=0, lt=1)
    """Its share of the rows, at the start."""
    end_weight: float | None = Field(None, ge=0, lt=1)
    """Its share after `steps`; it changes linearly. None keeps `weight`."""
    steps: int | None = Field(None, ge=1)
    """Steps until `end_weight` is reached."""

    @model_validator(mode="after")
    def _schedule_is_whole(self) -> "MixedText":
        if (self.end_weight is None) != (self.steps is None):
            raise ValueError(
                "a scheduled weight needs both: end_weight, the share at its end, and steps, the "
                "step at which it is reached."
            )
        if self.weight == 0 and not self.end_weight:
            raise ValueError(f"the text '{self.name}' never has a share of the rows: remove it.")
        return self

    def weights(self, done: np.ndarray) -> np.ndarray:
        """Return its share of the rows [B] that are drawn after `done` steps, float64 [B]."""
        if self.end_weight is None or self.steps is None:
            return np.full(len(done), self.weight)
        share = np.minimum(done / self.steps, 1.0)
        return self.weight + (self.end_weight - self.weight) * share


def check_weights(texts: Sequence[MixedText]) -> None:
    """Check the names and the sum of the weights of a mixture.

    Raises:
        ValueError: two texts share a name, or nothing is left for the text of `[data]`.
    """
    names = [text.name for text in texts]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two texts of data.mixture are called '{min(twice)}': rename one.")
    ends = sorted({0, *(text.steps for text in texts if text.steps is not None)})
    for step in ends:
        total = sum(float(text.weights(np.array([step]))[0]) for text in texts)
        if total >= 1:
            raise ValueError(
                f"the weights of data.mixture sum to {total:g} at step {step}: the text of [data] "
                "has the rest of the rows, so they must sum to less than 1."
            )


@dataclass(frozen=True)
class Mix:
    """Choice of the text that each row is cut from, a pure function of the row's number.

    Row r stands at `r · golden ratio` on a circle that the weights divide, so at any moment each
    text has had its share to within a few rows, and nothing needs to be saved.

    Attributes:
        texts: the texts beside that of `[data]`, which is number 0.
        steps_of: returns the training step that reads each row.
    """

    texts: Sequence[MixedText]
    steps_of: Callable[[np.ndarray], np.ndarray]

    def choices(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of the text of each row: int64 [B]."""
        done = self.steps_of(rows)
        edges = np.cumsum([text.weights(done) for text in self.texts], axis=0)
        above = (golden(rows) < edges).sum(axis=0)
        return np.where(above == 0, 0, len(self.texts) + 1 - above)


BLOCK = 1 << 20
"""Rows that are counted at once where a run is resumed."""


class MixedRows:
    """The rows of several texts, each text in the order that it has alone."""

    shapes = 1

    def __init__(self, parts: Sequence[Rows], mix: Mix) -> None:
        self.parts, self.mix = parts, mix
        self.per_epoch = sum(part.per_epoch for part in parts)
        self.size = sum(part.size for part in parts)
        self._counted = (0, np.zeros(len(parts), dtype=np.int64))

    def counts(self, row: int) -> np.ndarray:
        """Return the rows of each text before a row: int64 [texts]."""
        at, counts = self._counted
        if at > row:
            at, counts = 0, np.zeros_like(counts)
        while at < row:
            block = np.arange(at, min(row, at + BLOCK), dtype=np.int64)
            counts = counts + np.bincount(self.mix.choices(block), minlength=len(counts))
            at += len(block)
        self._counted = (at, counts)
        return counts

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the arrays of consecutive rows [B]."""
        counts, chosen = self.counts(int(rows[0])), self.mix.choices(rows)
        out: Batch = {}
        for number, part in enumerate(self.parts):
            places = np.flatnonzero(chosen == number)
            if not places.size:
                continue
            numbers = counts[number] + np.arange(len(places))
            for name, array in part.batch(numbers).items():
                shape = (len(rows), *array.shape[1:])
                out.setdefault(name, np.empty(shape, array.dtype))[places] = array
        return out
