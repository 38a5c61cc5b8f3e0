"""The batch slot: a kind builds and collates the rows of a split into arrays for an objective.

A stream counts rows over all epochs and processes, and a batch kind builds row r from the text,
the seed and r alone. So a batch does not depend on what was read before it, noise included.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from ..recipe.config import Kind
from .pieces import Piece, Record
from .prepared import Prepared
from .shards import Batch, Split
from .tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class BatchSetting:
    """The values that streams and batch kinds take from other tables of the recipe."""

    seq_len: int
    """T, columns of a row."""
    seed: int = 0
    shuffle: bool = True
    mask_documents: bool = False
    batch_size: int = 1
    """B, rows of a batch over all processes."""


@dataclass(frozen=True)
class Columns:
    """Row of a batch that the memory plan counts with (see `BatchKind.columns`).

    Attributes:
        target: tokens that the model reads; of an encoder-decoder, its decoder.
        n_predicted: tokens of a row that are predicted from the vocabulary.
        source: tokens that the encoder of an encoder-decoder reads; 0 without one.
        masked: whether attention gets a mask array.
    """

    target: int
    n_predicted: int
    source: int = 0
    masked: bool = False


class Rows(Protocol):
    """The rows that a stream counts: endless for training, one pass for evaluation."""

    per_epoch: int
    """Rows in one pass."""
    size: int
    """How much data rows are cut from; a saved cursor must agree on it."""

    shapes: int
    """How many shapes its batches may have."""

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the arrays of rows, int64 [B]. Those of evaluation include `weights`."""
        ...


Begin = Literal["start", "end", "pad"]
"""The role of a control token that begins a target."""


class BatchKind(Kind, ABC):
    """A kind of batch. The class declares its arrays, the fields say how they are made."""

    gives: ClassVar[tuple[str, ...]]
    """The arrays of every batch."""
    covers_text: ClassVar[bool] = False
    """Whether every token is predicted once, so that loss per byte of text (bits per byte) is
    defined."""
    reads_records: ClassVar[bool] = False
    """Whether it reads records with named fields instead of running text."""

    @property
    def begins(self) -> Begin:
        """The role of the control token that begins a target."""
        return "start"

    @property
    def row_unit(self) -> int:
        """Tokens of which `train.seq_len` has to be a multiple."""
        return 1

    def columns(self, seq_len: int) -> Columns:
        """Return the size of its largest row for a given `train.seq_len`.

        A kind that drops words by chance gives that of nearly all its batches: a rare one is
        larger.
        """
        return Columns(seq_len, seq_len)

    def controls(self) -> tuple[str, ...]:
        """Return the control tokens that it inserts, by role (see `tokenizers.controls`)."""
        return ()

    def cache_key(self) -> dict[str, object]:
        """Return the settings that change the content of a prepared set, as a JSON value; empty if
        the text is stored unchanged."""
        return {"controls": list(self.controls())} if self.controls() else {}

    def accept(self, piece: Piece) -> Piece:
        """Check a piece and return it; for a record, with the text that tokenizers train on.

        Raises:
            DataError: it is not of the form that this kind reads.
        """
        return piece

    def labels(self, record: Record) -> Iterable[str | int]:
        """Return the labels of a record. All labels of a set, sorted, are its classes."""
        return ()

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        """Return the fields of a record as lists of integers, the same number for every record."""
        raise NotImplementedError(f"Batches of kind '{self.kind}' are made of text.")

    @abstractmethod
    def train(self, prepared: Prepared, setting: BatchSetting) -> Rows:
        """Return the rows of training, epoch after epoch.

        Raises:
            DataError: the split is shorter than a row.
        """

    @abstractmethod
    def held_out(self, prepared: Prepared, split: Split, setting: BatchSetting) -> Rows:
        """Return the rows of one pass over a split, the same every time.

        Raises:
            DataError: there is nothing to evaluate.
        """
