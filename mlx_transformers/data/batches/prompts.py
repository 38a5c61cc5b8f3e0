"""Prompts that a model completes itself, with the record that each comes from."""

import json
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .chat import chat_template, tools_of
from .fields import string
from .written import WrittenKind, prefix_before, prompt_text


class Prompts(WrittenKind):
    """A prompt per row, for the source `rollouts`; rewards read the other fields of its record.

    As rows of the source `stream`: `tokens` [B, T + 1], padded on the right, and `weights` [B, T],
    1 where a token of the prompt is predicted.
    """

    kind: Literal["prompts"] = "prompts"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "weights")

    prompt_key: str = "prompt"
    """Field of the prompt."""

    def cache_key(self) -> dict[str, object]:
        return super().cache_key() | {"prompts": self.prompt_key}

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len)

    def accept(self, piece: Piece) -> Piece:
        return self.with_texts(piece, self.prompt_key, [])

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        messages = record[self.prompt_key]
        if isinstance(messages, list):
            template = chat_template(self.template, tokenizer)
            text = prompt_text(template, messages, tools_of(record, "tools"))
            record, tokens = {**record, self.prompt_key: text}, tokenizer.encode_special(text)
        else:
            text = string(record, self.prompt_key)
            encode = tokenizer.encode_special if self.special_tokens else tokenizer.encode
            tokens = list(encode(text))
            tokens = [*prefix_before(tokenizer, tokens, self.special_tokens), *tokens]
        return [tokens, list(json.dumps(record, ensure_ascii=False, default=str).encode())]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        seq_len = setting.seq_len

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            tokens = fields[0][: seq_len + 1]
            return {"tokens": tokens, "weights": np.ones(max(len(tokens) - 1, 0), np.float32)}

        widths = {"tokens": [seq_len + 1], "weights": [seq_len]}
        examples = RecordExamples(prompt_records(prepared, split), setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)


def prompt_records(prepared: Prepared, split: Split) -> Records:
    """The records of a split: the tokens of the prompt, and the record as JSON in UTF-8 bytes.

    Raises:
        DataError: the split has none.
    """
    return Records(prepared, split, 2)


def decoded(text: np.ndarray) -> Record:
    """The record of its JSON in UTF-8 bytes."""
    record: Record = json.loads(bytes(text.astype(np.uint8)))
    return record
