"""Unpaired preferences: a prompt with one completion that is labelled good or bad."""

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
from .written import WrittenKind

GOOD = {"true": 1, "1": 1, "good": 1, "false": 0, "0": 0, "bad": 0}
"""Labels as rows write them, and what they stand for."""


class Unpaired(WrittenKind):
    """A prompt, a completion, and whether it was liked (Ethayarajh et al. 2024).

    `tokens` [B, T + 1]: prompt and completion, padded on the right; `counted` [B, T]: 1 where a
    token of the completion or its end-of-text token is predicted; `label` [B]: 1 for good, 0 for
    bad; `mismatched`, `mismatched_counted`: the same prompt with the completion of another row,
    drawn by the seed; `weights` [B], 1 for a real row, 0 for padding. Longer rows lose their end.
    """

    kind: Literal["unpaired"] = "unpaired"
    gives: ClassVar[tuple[str, ...]] = (
        "tokens",
        "counted",
        "mismatched",
        "mismatched_counted",
        "label",
        "weights",
    )

    prompt_key: str = "prompt"
    """Field of the prompt."""
    completion_key: str = "completion"
    """Field of the completion."""
    label_key: str = "label"
    """Field of the label: true or false, 1 or 0, "good" or "bad"."""

    def cache_key(self) -> dict[str, object]:
        keys = [self.prompt_key, self.completion_key, self.label_key]
        return super().cache_key() | {"unpaired": keys}

    def columns(self, seq_len: int) -> Columns:
        return Columns(2 * seq_len, 2 * seq_len)

    def accept(self, piece: Piece) -> Piece:
        checked = self.with_texts(piece, self.prompt_key, [self.completion_key], [self.label_key])
        assert checked.record is not None, "with_texts has seen to it"
        self._label(checked.record, checked.where)
        return checked

    def _label(self, record: Record, where: str = "a record") -> int:
        """1 for good, 0 for bad.

        Raises:
            RowError: the label is neither.
        """
        value = record[self.label_key]
        label = GOOD.get(str(value).lower())
        if label is None:
            raise RowError(
                f"{where}: the label in the field '{self.label_key}' is {value!r:.60}. It is true "
                'or false, 1 or 0, "good" or "bad".'
            )
        return label

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        (side,) = self.sides(record, tokenizer, self.prompt_key, [self.completion_key])
        return [*side, [self._label(record)]]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        seq_len, records = setting.seq_len, Records(prepared, split, 3)
        records.require_completions((1,), seq_len)

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            tokens, counted, label = fields
            other_tokens, other_counted, _ = records[int(rng.integers(len(records)))]
            prompt, other_completion = tokens[counted == 0], other_tokens[other_counted > 0]
            mismatched = np.concatenate([prompt, other_completion])[: seq_len + 1]
            places = np.arange(len(prompt) + len(other_completion))[: seq_len + 1] >= len(prompt)
            return {
                "tokens": tokens[: seq_len + 1],
                "counted": counted[1 : seq_len + 1].astype(np.float32),
                "mismatched": mismatched,
                "mismatched_counted": places[1:].astype(np.float32),
                "label": np.int32(label[0]),
                "weights": np.float32(1),
            }

        widths = {name: [seq_len + 1] for name in ("tokens", "mismatched")}
        widths |= {name: [seq_len] for name in ("counted", "mismatched_counted")}
        examples = RecordExamples(records, setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)
