"""Parallel text: a source and its target, for sequence-to-sequence models."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ...core.errors import DataError
from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Begin, Columns
from ..pieces import Piece, Record
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .record_kind import RecordKind


class Pairs(RecordKind):
    """Sequence to sequence from parallel text (Sutskever et al. 2014): the source and an end token;
    a start token, the target, and an end token. Long texts are truncated before the end token.

    A batch is padded to the smallest of `lengths` that holds source and target; a target has at
    most `target_len` columns.
    """

    kind: Literal["pairs"] = "pairs"
    gives: ClassVar[tuple[str, ...]] = ("source", "source_valid", "tokens", "weights")

    source_key: str = "source"
    """Field of the source."""
    target_key: str = "target"
    """Field of the target."""
    prefix: str = ""
    """Text before every source that names the task: "translate English to German: " (Raffel et al.
    2020, section 2.4)."""
    lengths: list[int] | None = Field(None, min_length=1)
    """Length buckets: columns that a batch may have, ascending, the last `train.seq_len`; each
    compiles one step. Unset: `train.seq_len` alone."""
    target_len: int | None = Field(None, ge=2)
    """Columns of a target, if fewer than those of a source; longer targets are truncated. Unset: as
    many."""
    reverse_source: bool = False
    """Reverse the source, so that its beginning is close to the target's (Sutskever et al. 2014,
    section 3.3)."""
    start: Begin = "start"
    """The control token that the target begins with; BART uses "end", T5 "pad"."""

    @model_validator(mode="after")
    def _ascending(self) -> "Pairs":
        if self.lengths and (sorted(set(self.lengths)) != self.lengths or self.lengths[0] < 2):
            raise ValueError("data.batch.lengths must ascend, from 2 on.")
        return self

    @property
    def begins(self) -> Begin:
        return self.start

    def columns(self, seq_len: int) -> Columns:
        target = self.longest_target(seq_len)
        return Columns(target, target, seq_len, masked=True)

    def controls(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.start, "end")))

    def cache_key(self) -> dict[str, object]:
        keys = [self.source_key, self.target_key]
        return super().cache_key() | {"pairs": keys, "prefix": self.prefix}

    def accept(self, piece: Piece) -> Piece:
        keys = (self.source_key, self.target_key)
        return with_words(piece, self.kind, keys, keys)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        source, target = string(record, self.source_key), string(record, self.target_key)
        return [tokenizer.encode(self.prefix + source), tokenizer.encode(target)]

    def source(self, text: str, tokenizer: Tokenizer) -> list[int]:
        """A source as the model reads it, to write a target for."""
        tokens = tokenizer.encode(self.prefix + text)
        return [*(tokens[::-1] if self.reverse_source else tokens), tokenizer.control("end")]

    def longest_target(self, seq_len: int) -> int:
        """Return the columns of a target, including its end token.

        Raises:
            DataError: `target_len` is not below `seq_len`.
        """
        if self.target_len is not None and self.target_len >= seq_len:
            raise DataError(
                f"data.batch.target_len = {self.target_len} shortens nothing where train.seq_len = "
                f"{seq_len}: take less, or leave it out."
            )
        return self.target_len or seq_len

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        lengths = declared(self.lengths, setting.seq_len)
        target_len = self.longest_target(setting.seq_len)
        records = Records(prepared, split, 2)
        fit = [length - 1 for length in lengths]
        examples = RecordExamples(records, setting, train=train, widths=fit)
        tokenizer = prepared.tokenizer
        ends = (tokenizer.control(self.start), tokenizer.control("end"))

        def make(pair: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            source, target = pair[0][: lengths[-1] - 1], pair[1][: target_len - 1]
            return seq2seq_row(source[::-1] if self.reverse_source else source, target, *ends)

        return RecordRows(examples, make, seq2seq_widths(lengths, target_len), setting.seed)


def declared(lengths: list[int] | None, seq_len: int) -> list[int]:
    """Return the columns that batches may have.

    Raises:
        DataError: the longest is not `train.seq_len`.
    """
    if lengths is None:
        return [seq_len]
    if lengths[-1] != seq_len:
        raise DataError(
            f"data.batch.lengths ends with {lengths[-1]}, and train.seq_len = {seq_len}: "
            "the last of the lengths has to be the longest row."
        )
    return lengths


def seq2seq_widths(lengths: list[int], target_len: int) -> dict[str, list[int]]:
    """Return the widths of a sequence-to-sequence batch; `tokens` has one more, the start token."""
    targets = [min(length, target_len) for length in lengths]
    return {
        **dict.fromkeys(("source", "source_valid"), lengths),
        "tokens": [length + 1 for length in targets],
        "weights": targets,
    }


def seq2seq_row(
    source: np.ndarray, target: np.ndarray, start: int, end: int
) -> dict[str, np.ndarray]:
    """Return the row of a source and its target, each with an end token."""
    source = np.append(source, end)
    return {
        "source": source,
        "source_valid": np.ones(len(source), bool),
        "tokens": np.concatenate([[start], target, [end]]),
        "weights": np.ones(len(target) + 1, np.float32),
    }
