"""Options, scores and batches that the tasks of `mlxt eval --task` share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import mlx.core as mx

from ...assembly.build import Built
from ...core.errors import RunError
from ...data.stream import EvalStream
from ...decode.beam import Beams
from ...score.interval import Score

GREEDY = Beams(1, alpha=0.0)


@dataclass(frozen=True)
class Group:
    """Examples whose sources have `first` to `last` words; None as `last` has no upper limit."""

    first: int
    last: int | None
    examples: int
    scores: list[Score]


@dataclass(frozen=True)
class TaskScores:
    """Number of examples, their scores, and the scores of each group of source lengths."""

    examples: int
    scores: list[Score]
    groups: list[Group] = field(default_factory=list)


@dataclass(frozen=True)
class TaskOptions:
    """Settings of tasks that generate texts or drawings.

    Attributes:
        beams: settings of beam search.
        lengths: words of the source at which a new group begins, ascending; empty for no groups.
        judge: the run of a CLIP model that ranks the texts of drawings; None leaves that out.
    """

    beams: Beams = GREEDY
    lengths: Sequence[int] = ()
    judge: str | None = None

    @property
    def searches(self) -> bool:
        """Whether an option of the search for a text is set."""
        return self.beams != GREEDY or bool(self.lengths)

    def __post_init__(self) -> None:
        if any(a >= b for a, b in pairwise((0, *self.lengths))):
            raise RunError(
                f"Groups of lengths begin at {', '.join(map(str, self.lengths))} words: give "
                "whole numbers from 1 on, each larger than the one before."
            )


def counted_batches(stream: EvalStream) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each batch as MLX arrays with its number of real (non-filler) rows."""
    remaining = len(stream.numbers)
    for batch in stream:
        rows = min(remaining, stream.batch_size)
        remaining -= rows
        yield {name: mx.array(array) for name, array in batch.items()}, rows


Measure = Callable[[Built, EvalStream, TaskOptions], TaskScores]
"""Predicts the held-out examples with a built run's model, and scores the predictions."""
