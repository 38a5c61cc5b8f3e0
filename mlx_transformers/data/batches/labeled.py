"""Labelled texts: a sequence or a pair of sequences, and its class."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import label, string, with_words
from .noisy_windows import encoder_widths, with_cls_sep
from .record_kind import RecordKind


class Labeled(RecordKind):
    """`[CLS] text [SEP]`, or `[CLS] text [SEP] other [SEP]`, and its class: Devlin et al. 2018,
    section 4.1. Long texts are truncated, the longer of two first.

    `tokens`, `types` and `valid` [B, T], `label` [B], and `weights` [B], 1 for a real row, 0
    for padding.
    Class i is the i-th of all labels, sorted.
    """

    kind: Literal["labeled"] = "labeled"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "types", "valid", "label", "weights")

    text_key: str = "text"
    """Field of the text."""
    other_key: str | None = None
    """Field of a second text, for tasks on pairs."""
    label_key: str = "label"
    """Field of the label: text, a whole number, or true or false."""
    n_examples: int | None = Field(None, ge=1)
    """Number of training examples, drawn by `train.seed`. Unset: all. Validation is not reduced."""

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, 0, masked=True)

    def controls(self) -> tuple[str, ...]:
        return ("cls", "sep")

    def _words(self) -> tuple[str, ...]:
        return (self.text_key,) if self.other_key is None else (self.text_key, self.other_key)

    def cache_key(self) -> dict[str, object]:
        return super().cache_key() | {"labeled": [*self._words(), self.label_key]}

    def accept(self, piece: Piece) -> Piece:
        text_keys = self._words()
        piece = with_words(piece, self.kind, (*text_keys, self.label_key), text_keys)
        label((piece.record or {})[self.label_key], self.label_key, piece.where)
        return piece

    def labels(self, record: Record) -> Iterable[str | int]:
        return (label(record[self.label_key], self.label_key),)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        texts = [tokenizer.encode(string(record, key)) for key in self._words()]
        return [*texts, [labels[str(label(record[self.label_key], self.label_key))]]]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        records = Records(prepared, split, len(self._words()) + 1)
        tokenizer, seq_len = prepared.tokenizer, setting.seq_len

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            *texts, label = fields
            row = with_cls_sep(tokenizer, *fitted(texts, seq_len - 1 - len(texts)))
            return {**row, "label": int(label[0]), "weights": np.float32(1)}

        limit = self.n_examples if train else None
        examples = RecordExamples(records, setting, train=train, limit=limit)
        return RecordRows(examples, make, encoder_widths(seq_len, "types"), setting.seed)


def fitted(texts: list[np.ndarray], room: int) -> list[np.ndarray]:
    """Truncate texts until they fit, one token of the longer at a time ("longest first" in BERT's
    code)."""
    lengths = [len(text) for text in texts]
    while sum(lengths) > room:
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        other_tokens = sum(lengths) - lengths[longest]
        second = max((n for i, n in enumerate(lengths) if i != longest), default=0)
        lengths[longest] = max(room - other_tokens, min(second, lengths[longest] - 1), 0)
    return [text[:length] for text, length in zip(texts, lengths, strict=True)]
