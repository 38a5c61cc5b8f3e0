"""Token classification: a class for every word of a sentence."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record, RowError
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import label, with_words
from .noisy_windows import encoder_widths, with_cls_sep
from .record_kind import RecordKind


class Tagged(RecordKind):
    """`[CLS] words [SEP]` and a class for the first token of each word: Devlin et al. 2018,
    section 5.3. Words are joined by spaces.

    `tokens`, `targets`, `valid` and `weights` (1 where a word begins), all [B, T]. Class i is the
    i-th of all tags, sorted.
    """

    kind: Literal["tagged"] = "tagged"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "targets", "weights", "valid")

    words_key: str = "words"
    """Field of the words, a list of strings."""
    tags_key: str = "tags"
    """Field of their tags, a list of as many strings or whole numbers."""

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, 0, masked=True)

    def controls(self) -> tuple[str, ...]:
        return ("cls", "sep")

    def cache_key(self) -> dict[str, object]:
        return super().cache_key() | {"tagged": [self.words_key, self.tags_key]}

    def accept(self, piece: Piece) -> Piece:
        piece = with_words(piece, self.kind, (self.words_key, self.tags_key), ())
        words, tags = self._lists(piece.record or {}, piece.where)
        if len(words) != len(tags):
            raise RowError(f"{piece.where}: {len(words)} words and {len(tags)} tags.")
        return replace(piece, text=" ".join(words))

    def _lists(self, record: Record, where: str = "a record") -> tuple[list[str], list[str | int]]:
        words, tags = record[self.words_key], record[self.tags_key]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise RowError(f"{where}: the field '{self.words_key}' is no list of strings.")
        if not isinstance(tags, list):
            raise RowError(f"{where}: the field '{self.tags_key}' is no list.")
        return words, [label(tag, self.tags_key, where) for tag in tags]

    def labels(self, record: Record) -> Iterable[str | int]:
        return self._lists(record)[1]

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        tokens: list[int] = []
        marks: list[int] = []  # class + 1 where a word begins, 0 inside it
        for number, (word, tag) in enumerate(zip(*self._lists(record), strict=True)):
            pieces = tokenizer.encode(f" {word}" if number else word)
            tokens += pieces
            marks += [labels[str(tag)] + 1, *[0] * (len(pieces) - 1)][: len(pieces)]
        return [tokens, marks]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        tokenizer, seq_len = prepared.tokenizer, setting.seq_len

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            tokens, marks = (field[: seq_len - 2] for field in fields)
            row = with_cls_sep(tokenizer, tokens)
            return {
                "tokens": row["tokens"],
                "valid": row["valid"],
                "targets": np.pad(np.maximum(marks - 1, 0), 1),
                "weights": np.pad((marks > 0).astype(np.float32), 1),
            }

        widths = encoder_widths(seq_len, "targets", "weights")
        examples = RecordExamples(Records(prepared, split, 2), setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)
