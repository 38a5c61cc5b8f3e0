"""A row of a certificate: a promise about a model, and how it is measured."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

from .subject import Subject

State = Literal["holds", "broken", "doesn't apply"]


class DoesNotApply(Exception):
    """The promise has no meaning for a model; the message is one sentence that says why."""


def tokens_of(subject: Subject) -> mx.array:
    """Return the tokens of a subject's batch, `[B, T]`.

    Raises:
        DoesNotApply: its batches hold several texts, such as answers to compare, or none.
    """
    if "tokens" not in subject.batch:
        raise DoesNotApply("Its batches don't hold one text in each row.")
    return subject.batch["tokens"]


@dataclass(frozen=True)
class Measured:
    """The result of a measurement.

    Attributes:
        worst: the largest difference found.
        note: figures beside it, as a text.
    """

    worst: float
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A promise, and how it is measured.

    Attributes:
        name: its short name, "left = right".
        promise: the promise in plain words.
        figure: the quantity that `tolerance` bounds.
        tolerance: the largest difference that keeps the promise.
        measure: measures a subject; raises `DoesNotApply` where the promise has no meaning.
    """

    name: str
    promise: str
    figure: str
    tolerance: float
    measure: Callable[[Subject], Measured]


@dataclass(frozen=True)
class Verdict:
    """A row and how it came out.

    Attributes:
        name: that of the row.
        promise: that of the row.
        figure: that of the row.
        tolerance: that of the row.
        state: whether the promise holds.
        worst: the largest difference; None where the row doesn't apply or the difference is no
            number.
        note: figures beside it, or the reason why the row doesn't apply.
        seconds: time that the measurement took.
    """

    name: str
    promise: str
    figure: str
    tolerance: float
    state: State
    worst: float | None
    note: str
    seconds: float


def judged(row: Row, measured: Measured, seconds: float) -> Verdict:
    """Compare a measurement with the tolerance; a difference that is no number breaks the row."""
    state: State = "holds" if measured.worst <= row.tolerance else "broken"
    worst = measured.worst if math.isfinite(measured.worst) else None
    return Verdict(
        row.name, row.promise, row.figure, row.tolerance, state, worst, measured.note, seconds
    )


def excused(row: Row, reason: str, seconds: float) -> Verdict:
    """Return the verdict on a row that has no meaning for a model."""
    state: State = "doesn't apply"
    return Verdict(row.name, row.promise, row.figure, row.tolerance, state, None, reason, seconds)
