"""A curriculum: easy rows before hard ones, and short rows before long ones."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from ..recipe.config import Config
from .kinds import Rows
from .order import golden
from .prepared import Prepared
from .shards import Batch

Pacing = Literal["linear", "root", "step", "geometric"]
Difficulty = Literal["length", "rarity", "compression", "loss"]
StepsOf = Callable[[np.ndarray], np.ndarray]
"""`(rows [B]) -> steps [B]`: the training step that reads each row."""


class Curriculum(Config):
    """The order of the training rows (Bengio et al. 2009): each is drawn from the easiest rows, of
    which a growing share takes part (Platanios et al. 2019); then epochs of all rows follow.

    A row is easy by its length in tokens, by `rarity` (the sum of -log p of its tokens, by their
    frequency), by `compression` (bytes by zlib for each byte), or by the loss of another run on it.
    """

    by: Difficulty
    """Difficulty of a row, by which it is ordered."""
    reference: str | None = None
    """Run whose loss is the difficulty, for `by = "loss"`; its best checkpoint."""
    pacing: Pacing = "root"
    """How the share of rows grows from `start` at step 0 to 1 at `steps`: linearly; as a square
    root, which gives each new row as much time; in `levels` steps; geometrically."""
    start: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the rows, the easiest, that take part at step 0."""
    steps: int = Field(ge=1)
    """Steps until all rows take part."""
    levels: int = Field(4, ge=2)
    """Levels of the pacing `step`."""

    @model_validator(mode="after")
    def _loss_is_that_of_a_run(self) -> "Curriculum":
        if (self.by == "loss") != (self.reference is not None):
            raise ValueError("by = 'loss' and reference = RUN, whose loss it is, go together.")
        return self

    def share(self, steps: np.ndarray) -> np.ndarray:
        """Return the share of rows, the easiest, that take part at steps [B]: float64 [B]."""
        first, done = self.start, np.minimum(steps / self.steps, 1.0).astype(np.float64)
        if self.pacing == "step":
            done = np.floor(done * (self.levels - 1)) / (self.levels - 1)
        share: np.ndarray = first + (1 - first) * done
        if self.pacing == "root":
            share = np.sqrt(first**2 + (1 - first**2) * done)
        if self.pacing == "geometric":
            share = np.power(first, 1 - done)
        return share


def difficulty(by: Difficulty, rows: Rows, prepared: Prepared) -> np.ndarray:
    """Return how hard each row of one pass is by its text: float64 [rows].

    Args:
        by: `length`, `rarity` or `compression`.
        rows: the rows of a pass in order, each with `tokens`.
        prepared: the set that they are cut from.
    """
    tokens = [_row(rows.batch(np.array([row]))) for row in range(rows.per_epoch)]
    if by == "length":
        return np.array([len(row) for row in tokens], np.float64)
    if by == "rarity":
        counts = np.zeros(prepared.vocab_size)
        for row in tokens:
            counts += np.bincount(row, minlength=len(counts))
        surprise = -np.log(np.maximum(counts, 1) / counts.sum())
        return np.array([surprise[row].sum() for row in tokens])
    texts = [prepared.tokenizer.decode(row.tolist()).encode() for row in tokens]
    return np.array([len(zlib.compress(text, 9)) / max(1, len(text)) for text in texts])


def _row(batch: Batch) -> np.ndarray:
    """Return the tokens of the only row of a batch, without its padding.

    A row without targets, such as a prompt that fills it, is returned with its padding.
    """
    tokens: np.ndarray = batch["tokens"][0]
    if "valid" in batch:
        tokens = tokens[batch["valid"][0].astype(bool)]
    elif "weights" in batch and batch["weights"].ndim == 2:
        places = np.flatnonzero(batch["weights"][0])
        tokens = tokens[: places[-1] + 2] if places.size else tokens
    return tokens


@dataclass(frozen=True)
class Pace:
    """A curriculum in rows.

    Attributes:
        curriculum: the settings.
        steps_of: returns the step that reads each row.
        rows: the number of rows that it orders; a multiple of the rows of a batch.
    """

    curriculum: Curriculum
    steps_of: StepsOf
    rows: int


class CurriculumRows:
    """Rows from easy to hard, then those of the training in their usual order.

    Row r before the end of the curriculum is the one at `r · golden ratio` of those that take
    part, so each of them is read about as often as any other. Everything is a function of r.

    Args:
        usual: the rows of training.
        fixed: those of one pass in order.
        order: numbers of the rows of `fixed`, easiest first: int64 [rows].
        pace: how many of them take part.
    """

    def __init__(self, usual: Rows, fixed: Rows, order: np.ndarray, pace: Pace) -> None:
        self.usual, self.fixed, self.order, self.pace = usual, fixed, order, pace
        self.per_epoch, self.size, self.shapes = usual.per_epoch, usual.size, usual.shapes

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the arrays of consecutive rows [B]."""
        if rows[0] >= self.pace.rows:
            return self.usual.batch(rows - self.pace.rows)
        share = self.pace.curriculum.share(self.pace.steps_of(rows))
        places = golden(rows)
        n_easiest = np.maximum(1, np.floor(share * len(self.order)))
        return self.fixed.batch(self.order[np.floor(places * n_easiest).astype(np.int64)])


class ShortRows:
    """The beginnings of rows of running text, as long as a warm-up says.

    Args:
        rows: the rows, whose arrays are all [B, T + 1].
        length: returns the length of the row of a given number.
        shapes: the number of different lengths.
    """

    def __init__(self, rows: Rows, length: Callable[[int], int], shapes: int) -> None:
        self.rows, self.length = rows, length
        self.per_epoch, self.size, self.shapes = rows.per_epoch, rows.size, shapes

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the arrays of rows [B], which belong to one step."""
        width = self.length(int(rows[0])) + 1
        batch = self.rows.batch(rows)
        return {name: np.ascontiguousarray(array[:, :width]) for name, array in batch.items()}
