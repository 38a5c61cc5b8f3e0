"""Pairs: a source and the target that is to be written for it."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ...core.errors import DataError
from ..batching import Batching, Record, Setting
from ..pieces import Piece
from ..prepared import Prepared
from ..records import Records
from ..row_by_row import RecordExamples, RowByRow
from ..split import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words


class Pairs(Batching):
    """Sequence to sequence from parallel text (Sutskever et al. 2014): the source and an end
    token; a start token, the target, and an end token. What is too long is cut, its end kept.

    A batch is padded to the least of `lengths` that holds it, source and target alike.
    """

    kind: Literal["pairs"] = "pairs"
    gives: ClassVar[tuple[str, ...]] = ("source", "source_valid", "tokens", "weights")
    reads_records: ClassVar[bool] = True

    source_key: str = "source"
    """Field of the source."""
    target_key: str = "target"
    """Field of the target."""
    prefix: str = ""
    """Written before every source, to say what is to be done: "translate English to German: "
    (Raffel et al. 2020, section 2.4)."""
    lengths: list[int] | None = Field(None, min_length=1)
    """Columns that a batch may have, ascending, the last `train.seq_len`; one compiled step each.
    Unset: `train.seq_len` alone."""
    reverse_source: bool = False
    """Turn the source round, so that its beginning is near to the target's (Sutskever et al.
    2014, section 3.3)."""
    start: Literal["start", "end", "pad"] = "start"
    """The control token that the target begins with: BART takes the end, T5 the padding."""

    @model_validator(mode="after")
    def _ascending(self) -> "Pairs":
        if self.lengths and (sorted(set(self.lengths)) != self.lengths or self.lengths[0] < 2):
            raise ValueError("data.batch.lengths must ascend, from 2 on.")
        return self

    def controls(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.start, "end")))

    def stored(self) -> dict[str, Any]:
        keys = [self.source_key, self.target_key]
        return super().stored() | {"pairs": keys, "prefix": self.prefix}

    def read(self, piece: Piece) -> Piece:
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

    def train(self, prepared: Prepared, setting: Setting) -> RowByRow:
        return self._rows(prepared, "train", setting, train=True)

    def held_out(self, prepared: Prepared, split: Split, setting: Setting) -> RowByRow:
        return self._rows(prepared, split, setting, train=False)

    def _rows(self, prepared: Prepared, split: Split, setting: Setting, train: bool) -> RowByRow:
        lengths = declared(self.lengths, setting.seq_len)
        records = Records(prepared, split, 2)
        fit = [length - 1 for length in lengths]
        examples = RecordExamples(records, setting, train=train, widths=fit)
        tokenizer = prepared.tokenizer
        ends = (tokenizer.control(self.start), tokenizer.control("end"))

        def make(pair: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> dict[str, Any]:
            return seq2seq_row(*pair, *ends, length=lengths[-1], reverse=self.reverse_source)

        return RowByRow(examples, make, seq2seq_widths(lengths), setting.seed)


def declared(lengths: list[int] | None, seq_len: int) -> list[int]:
    """The columns that batches may have.

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


def seq2seq_widths(lengths: list[int]) -> dict[str, list[int]]:
    """The widths of a sequence-to-sequence batch: `tokens` has one more, its start."""
    same = dict.fromkeys(("source", "source_valid", "weights"), lengths)
    return same | {"tokens": [length + 1 for length in lengths]}


def seq2seq_row(
    source: np.ndarray,
    target: np.ndarray,
    start: int,
    end: int,
    *,
    length: int,
    reverse: bool = False,
) -> dict[str, np.ndarray]:
    """`source` with its end token, `tokens` from start to end, and ones for what exists; neither
    longer than `length` (`tokens`: one more)."""
    source, target = source[: length - 1], target[: length - 1]
    source = np.append(source[::-1] if reverse else source, end)
    tokens = np.concatenate([[start], target, [end]])
    return {
        "source": source,
        "source_valid": np.ones(len(source), bool),
        "tokens": tokens,
        "weights": np.ones(len(tokens) - 1, np.float32),
    }
