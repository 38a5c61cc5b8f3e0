"""What a kind of batch is: how the rows of a split become the arrays that an objective reads.

A stream counts rows, over all epochs and processes; a batch kind says what row r is. So a batch
is a function of the text, the seed and its number, whatever noise it holds.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ..recipe.config import Kind
from .pieces import Piece
from .prepared import Prepared
from .split import Split
from .tokenizers.tokenizer import Tokenizer

Batch = dict[str, np.ndarray]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """What the rest of a recipe says of its batches."""

    seq_len: int
    """T, the columns of a row."""
    seed: int
    shuffle: bool = True
    mask_documents: bool = False
    batch_size: int = 1
    """B, where rows follow each other from batch to batch."""


@dataclass(frozen=True)
class Columns:
    """How long the rows of a batch are at most, as memory is planned.

    Attributes:
        target: tokens that the model reads, or its decoder where it has one.
        told: tokens of a row that are predicted from the vocabulary.
        source: tokens that the encoder of two stacks reads; 0 where there is none.
        masked: whether attention is given an array of what exists or may be seen.
    """

    target: int
    told: int
    source: int = 0
    masked: bool = False


class Rows(Protocol):
    """The rows that a stream counts: endless for training, one pass for evaluation."""

    per_epoch: int
    """Rows in one pass."""
    size: int
    """What a saved cursor must agree on: how much there is to cut rows from."""

    shapes: int
    """How many shapes its batches may have."""

    def batch(self, rows: np.ndarray) -> Batch:
        """The arrays of rows, int64 [B]; `weights` is among those of evaluation."""
        ...


class Batching(Kind):
    """A kind of batch. Its class says what it needs and gives, its fields how it is made."""

    gives: ClassVar[tuple[str, ...]]
    """The arrays of every batch."""
    covers_text: ClassVar[bool] = False
    """Whether every token is predicted once, so that a loss per byte of the text has a meaning."""
    reads_records: ClassVar[bool] = False
    """Whether it is made of records with named fields rather than of running text."""

    def columns(self, seq_len: int) -> Columns:
        """How long its rows are at most, where `train.seq_len` is given."""
        return Columns(seq_len, seq_len)

    def controls(self) -> tuple[str, ...]:
        """The control tokens that it writes, by role (see `tokenizers.controls`)."""
        return ()

    def stored(self) -> dict[str, Any]:
        """What of it decides the content of a prepared set, as a JSON value; empty for what is
        made of text as it is."""
        return {"controls": list(self.controls())} if self.controls() else {}

    def read(self, piece: Piece) -> Piece:
        """A piece as this kind sees it: text, or a record with the text that its words are in."""
        return piece

    def names(self, record: Record) -> Iterable[str]:
        """The labels that a record has; all of them, sorted, are the classes of a set."""
        return ()

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        """The fields of a record as lists of integers, always as many."""
        raise NotImplementedError(f"Batches of kind '{self.kind}' are made of text.")

    @abstractmethod
    def train(self, prepared: Prepared, setting: Setting) -> Rows:
        """The rows of training, epoch after epoch.

        Raises:
            DataError: the split is shorter than a row.
        """

    @abstractmethod
    def held_out(self, prepared: Prepared, split: Split, setting: Setting) -> Rows:
        """The rows of one pass over a split, the same every time.

        Raises:
            DataError: there is nothing to evaluate.
        """
