"""Extractive question answering: questions and the spans of a text that answer them."""

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
from .noisy_windows import encoder_widths, with_cls_sep
from .record_kind import RecordKind


class Answers(RecordKind):
    """`[CLS] question [SEP] context [SEP]`, and where the answer starts and ends: Devlin et al.
    2018, section 4.2. A missing or truncated answer points at `[CLS]` (section 4.3).

    `tokens`, `types`, `valid` [B, T], `answer` [B, 2] (first and last token), `weights` [B].
    """

    kind: Literal["answers"] = "answers"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "types", "valid", "answer", "weights")

    question_key: str = "question"
    """Field of the question."""
    context_key: str = "context"
    """Field of the text that may answer it."""
    answer_key: str = "answer"
    """Field of the answer, a verbatim part of the context; empty if there is none."""
    start_key: str | None = None
    """Field of the answer's position in the context, in characters. Unset: its first occurrence."""

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, 0, masked=True)

    def controls(self) -> tuple[str, ...]:
        return ("cls", "sep")

    def cache_key(self) -> dict[str, object]:
        keys = [self.question_key, self.context_key, self.answer_key, self.start_key]
        return super().cache_key() | {"answers": keys}

    def accept(self, piece: Piece) -> Piece:
        text_keys = (self.question_key, self.context_key)
        keys = (*text_keys, self.answer_key, *([self.start_key] if self.start_key else []))
        piece = with_words(piece, self.kind, keys, text_keys)
        self._place(piece.record or {}, piece.where)
        return piece

    def _place(self, record: Record, where: str = "a record") -> tuple[int, int]:
        """Return the start and end of the answer in characters; (0, 0) if there is none.

        Raises:
            DataError: the context doesn't have it there.
        """
        answer, context = string(record, self.answer_key), string(record, self.context_key)
        if not answer:
            return 0, 0
        start = context.find(answer) if self.start_key is None else record[self.start_key]
        if not isinstance(start, int) or context[start : start + len(answer)] != answer:
            raise RowError(f"{where}: the answer {answer!r:.60} is not in the context there.")
        return start, start + len(answer)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        start, stop = self._place(record)
        context = string(record, self.context_key)
        tokens, ends = tokenizer.encode_with_ends(context)
        question = tokenizer.encode(string(record, self.question_key))
        if start == stop:
            return [question, tokens, []]
        before, up_to = len(context[:start].encode()), len(context[:stop].encode())
        first = int(np.searchsorted(ends, before, side="right"))
        last = int(np.searchsorted(ends, up_to, side="left"))
        return [question, tokens, [first, min(last, len(tokens) - 1)]]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        tokenizer, room = prepared.tokenizer, setting.seq_len - 3

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            question, context, span = fields
            question = question[: room // 2]
            context = context[: room - len(question)]
            row = with_cls_sep(tokenizer, question, context)
            in_context = len(span) and span[1] < len(context)
            answer = span + len(question) + 2 if in_context else np.zeros(2, np.int32)
            return {**row, "answer": answer, "weights": np.float32(1)}

        widths = encoder_widths(setting.seq_len, "types")
        examples = RecordExamples(Records(prepared, split, 3), setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)
