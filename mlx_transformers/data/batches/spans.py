"""Texts of which only some spans are predicted: answers within a context, for instance."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record, RowError
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .record_kind import RecordKind


class Spans(RecordKind):
    """A text per row, and the spans of it whose tokens count in the loss; the rest is context.

    `tokens` [B, T + 1], `weights` [B, T]: 1 where the next token touches a span, 0 elsewhere and in
    padding on the right. Texts of more than T + 1 tokens are an error: an answer without its
    context can't be learnt.
    """

    kind: Literal["spans"] = "spans"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "weights")

    text_key: str = "text"
    """Field of the text."""
    spans_key: str = "spans"
    """Field of the spans: a list of `[start, end]` in characters, end excluded."""

    def cache_key(self) -> dict[str, object]:
        return super().cache_key() | {"spans": [self.text_key, self.spans_key]}

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len)

    def accept(self, piece: Piece) -> Piece:
        piece = with_words(piece, self.kind, (self.text_key, self.spans_key), (self.text_key,))
        self._spans(piece.record or {}, piece.where)
        return piece

    def _spans(self, record: Record, where: str = "a record") -> list[tuple[int, int]]:
        """Return the spans in UTF-8 bytes.

        Raises:
            RowError: they aren't pairs of positions within the text.
        """
        text, spans = string(record, self.text_key), record[self.spans_key]
        if not isinstance(spans, list) or not all(_is_span(span, len(text)) for span in spans):
            raise RowError(
                f"{where}: the field '{self.spans_key}' is {spans!r:.60}. It is a list of "
                f"[start, end] in characters of the text, which has {len(text)}."
            )
        return [(len(text[:start].encode()), len(text[:end].encode())) for start, end in spans]

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        tokens, ends = tokenizer.encode_with_ends(string(record, self.text_key))
        starts = np.concatenate([[0], ends[:-1]])
        marked = np.zeros(len(tokens), dtype=bool)
        for start, end in self._spans(record):
            marked |= (starts < end) & (ends > start)
        return [tokens, marked.astype(int).tolist()]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        seq_len = setting.seq_len

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            tokens, marked = fields
            return {"tokens": tokens, "weights": marked[1:].astype(np.float32)}

        records = Records(prepared, split, 2)
        records.require_length(seq_len + 1)
        examples = RecordExamples(records, setting, train=train)
        widths = {"tokens": [seq_len + 1], "weights": [seq_len]}
        return RecordRows(examples, make, widths, setting.seed)


def _is_span(span: object, length: int) -> bool:
    if not isinstance(span, list | tuple) or len(span) != 2:
        return False
    start, end = span
    return isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= length
