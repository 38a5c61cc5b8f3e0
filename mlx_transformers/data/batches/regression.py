"""Sequences of vectors, and the numbers that are to be predicted at some of them."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from ...core.errors import DataError
from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record, RowError
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import is_number, with_words
from .record_kind import RecordKind


class Regression(RecordKind):
    """A sequence of vectors per row, read in the place of embeddings, and a number to predict at
    each position that has one.

    `vectors` [B, T, W] with T = `train.seq_len` and W = `model.embed.width`, `values` [B, T],
    `counted` [B, T], 1 where there is a number, and `weights` [B], 1 for a real row, 0 for padding.
    """

    kind: Literal["regression"] = "regression"
    gives: ClassVar[tuple[str, ...]] = ("vectors", "values", "counted", "weights")

    vectors_key: str = "vectors"
    """Field of the vectors: a list of lists of numbers, all equally long."""
    values_key: str = "values"
    """Field of the numbers: a list as long, with null where nothing is predicted."""

    def cache_key(self) -> dict[str, object]:
        return super().cache_key() | {"regression": [self.vectors_key, self.values_key]}

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len)

    def accept(self, piece: Piece) -> Piece:
        piece = with_words(piece, self.kind, (self.vectors_key, self.values_key), ())
        record = piece.record or {}
        self._arrays(record, piece.where)
        # The text, of which a hash decides the split.
        text = " ".join(map(str, record[self.values_key]))
        return Piece(text, where=piece.where, record=record, group=piece.group)

    def _arrays(self, record: Record, where: str = "a record") -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors [T, W] and the numbers [T], NaN where there is none, in float32.

        Raises:
            RowError: they aren't lists of finite numbers that belong together.
        """
        vectors, values = record[self.vectors_key], record[self.values_key]
        fits = isinstance(vectors, list) and isinstance(values, list) and vectors
        if not fits or len(vectors) != len(values):
            raise RowError(
                f"{where}: '{self.vectors_key}' is a list of lists of numbers, and "
                f"'{self.values_key}' has a number or null for each of them."
            )
        width = len(vectors[0]) if isinstance(vectors[0], list) else 0
        numbers = [item if _is_row(item, width) else None for item in vectors]
        if not width or None in numbers:
            raise RowError(
                f"{where}: '{self.vectors_key}' has a vector that isn't a list of as many finite "
                "numbers as the first one."
            )
        if not all(item is None or is_number(item) for item in values):
            raise RowError(f"{where}: '{self.values_key}' has finite numbers, or null for none.")
        filled = [math.nan if item is None else item for item in values]
        return np.array(numbers, np.float32), np.array(filled, np.float32)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        return [list(array.tobytes()) for array in self._arrays(record)]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        seq_len = setting.seq_len

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            vectors, values = (
                np.frombuffer(field.astype(np.uint8).tobytes(), np.float32) for field in fields
            )
            if len(values) != seq_len:
                raise DataError(
                    f"A row has {len(values)} vectors, and train.seq_len is {seq_len}: set it to "
                    "the number of vectors, which is that of all rows."
                )
            has_value = ~np.isnan(values)
            return {
                "vectors": vectors.reshape(seq_len, -1),
                "values": np.where(has_value, values, np.float32(0)),
                "counted": has_value.astype(np.float32),
                "weights": np.float32(1),
            }

        widths = {name: [seq_len] for name in ("values", "counted")}
        examples = RecordExamples(Records(prepared, split, 2), setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)


def _is_row(value: object, width: int) -> bool:
    return isinstance(value, list) and len(value) == width and all(map(is_number, value))
