"""Batch sources: where the batches of training and of evaluation come from (slot `source`).

stream     rows of the prepared data, by seed and number
(others)   for instance rollouts, whose rows the model that is being trained generates
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import mlx.nn as nn
import numpy as np

from ..data.config import Data
from ..data.curriculum import Curriculum, CurriculumRows, Pace, ShortRows
from ..data.kinds import BatchKind, BatchSetting, Rows
from ..data.mixture import Mix
from ..data.prepared import Prepared
from ..data.stream import EvalStream, TrainStream
from ..data.tokenizers.tokenizer import Tokenizer
from ..distributed.processes import SINGLE, Ranks
from ..models.model import Model
from ..recipe.config import Kind
from .config import Train
from .forward import Forward

Batch = dict[str, Any]
"""Arrays by name, of NumPy or MLX, each `[B, ...]`."""


class Feed(Protocol):
    """An endless iterator over training batches that can be resumed."""

    def __next__(self) -> Batch:
        """The next batch, `batch_size` rows shared among the ranks."""
        ...

    def preview(self, n: int) -> list[Batch]:
        """The next `n` batches, without moving on."""
        ...

    @property
    def cursor(self) -> dict[str, Any]:
        """The place after the last batch, as a JSON value; checkpoints hold it."""
        ...

    @property
    def shapes(self) -> int:
        """Number of shapes that the batches may have: each is one more trace of the step."""
        ...

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of the feed's own time; NaN before the first batch."""
        ...

    def stats(self) -> dict[str, Any]:
        """Measurements since the last call, for the log: numbers by name."""
        ...

    def sample(self) -> str | None:
        """A text that the model wrote for a batch; None where batches come from data."""
        ...

    def close(self) -> None:
        """Stop background work; the feed can't be read afterwards."""
        ...


class FrozenModel(NamedTuple):
    """A model that is read but not trained, and its tokenizer."""

    model: Model
    tokenizer: Tokenizer


@dataclass(frozen=True)
class RunParts:
    """The parts of a run that a source may use.

    Attributes:
        data: the prepared data set.
        settings: the recipe's `[data]`.
        train: the recipe's `[train]`, its microbatches resolved.
        eval_batch_size: rows of an evaluation batch.
        models: models by role; "model" is the one being trained, with its current weights.
        ranks: the processes that share each batch.
        frozen: the models that the source reads but doesn't train, by role.
        forward: the forward pass of training, which has the compute dtype.
        curriculum: a curriculum, and the numbers of the rows of a pass, easiest first.
    """

    data: Prepared
    settings: Data
    train: Train
    eval_batch_size: int
    models: Mapping[str, nn.Module]
    ranks: Ranks = SINGLE
    frozen: Mapping[str, FrozenModel] = field(default_factory=dict)
    forward: Forward | None = None
    curriculum: tuple[Curriculum, np.ndarray] | None = None


def batch_setting(settings: Data, train: Train) -> BatchSetting:
    """Return the setting of the training batches."""
    return BatchSetting(
        train.seq_len, train.seed, settings.shuffle, settings.mask_documents, train.batch_size
    )


def rows_in_order(settings: Data, data: Prepared, train: Train) -> Rows:
    """Return the training rows of one pass in the order of the text."""
    return settings.batch.train(data, replace(batch_setting(settings, train), shuffle=False))


class SourceKind(Kind, ABC):
    """A kind of batch source."""

    @abstractmethod
    def gives(self, batch: BatchKind) -> tuple[str, ...]:
        """Names of the arrays of every batch; `batch` is the recipe's `data.batch`."""

    def covers_text(self, batch: BatchKind) -> bool:
        """Whether evaluation predicts every token of the text once, so bits per byte exist."""
        return False

    by_row: ClassVar[bool] = False
    """Whether its batches are rows of prepared data by number, which tables that choose the rows
    of a step need."""

    generates: ClassVar[bool] = False
    """Whether a model generates its batches between the steps."""

    def frozen(self) -> dict[str, str]:
        """Runs whose models are read but not trained, by role, such as a reward model."""
        return {}

    @abstractmethod
    def feed(self, parts: RunParts, cursor: Mapping[str, Any]) -> Feed:
        """Open the training batches at `cursor`; an empty one is the beginning.

        Raises:
            DataError: there is not enough data, or the cursor belongs to other data.
        """

    @abstractmethod
    def held_out(self, parts: RunParts, batches: int | None) -> Iterable[Batch]:
        """The batches of an evaluation, each with `weights`; all of one shape.

        Args:
            parts: the parts of the run.
            batches: number of batches; None takes all there are.

        Raises:
            DataError: there is nothing to evaluate on.
        """


class Stream(SourceKind):
    """Rows of the prepared data, made into arrays by `data.batch`; evaluation reads its
    validation split."""

    kind: Literal["stream"] = "stream"
    by_row: ClassVar[bool] = True

    def gives(self, batch: BatchKind) -> tuple[str, ...]:
        return batch.gives

    def covers_text(self, batch: BatchKind) -> bool:
        return batch.covers_text

    def feed(self, parts: RunParts, cursor: Mapping[str, Any]) -> TrainStream:
        train, settings = parts.train, parts.settings
        mix = Mix(settings.mixture, train.steps_of) if settings.mixture else None
        return TrainStream(
            parts.data,
            batch_setting(settings, train),
            kind=settings.batch,
            cursor=dict(cursor),
            rank=parts.ranks.rank,
            world=parts.ranks.world,
            mix=mix,
            wrap=partial(self._wrapped, parts),
        )

    def _wrapped(self, parts: RunParts, rows: Rows) -> Rows:
        """Put the rows into the order of a curriculum, and shorten those of a warm-up."""
        train, settings, warmup = parts.train, parts.settings, parts.train.seq_len_warmup
        if parts.curriculum is not None:
            curriculum, order = parts.curriculum
            pace = Pace(curriculum, train.steps_of, train.rows_before(curriculum.steps))
            rows = CurriculumRows(rows, rows_in_order(settings, parts.data, train), order, pace)
        if warmup is None:
            return rows
        return ShortRows(
            rows, lambda row: train.length(int(train.steps_of(np.array(row)))), warmup.shapes
        )

    def held_out(self, parts: RunParts, batches: int | None) -> EvalStream:
        setting = batch_setting(parts.settings, parts.train)
        return EvalStream(
            parts.data,
            replace(setting, batch_size=parts.eval_batch_size),
            kind=parts.settings.batch,
            batches=batches,
            rank=parts.ranks.rank,
            world=parts.ranks.world,
        )
