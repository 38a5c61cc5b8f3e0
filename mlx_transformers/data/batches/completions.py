"""Prompts and completions: supervised fine-tuning, with the loss on the completion alone."""

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
from .written import WrittenKind


class Completions(WrittenKind):
    """A prompt and its completion per row (Ouyang et al. 2022, section 3.5, supervised step).

    `tokens` [B, T + 1], padded on the right, `weights` [B, T]: 1 where a token of the completion or
    its end-of-text token is predicted. A token that straddles the border belongs to the completion.
    Rows longer than T + 1 tokens lose their end; a row whose completion is lost counts nothing.
    """

    kind: Literal["completions"] = "completions"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "weights")

    prompt_key: str = "prompt"
    """Field of the prompt."""
    completion_key: str = "completion"
    """Field of the completion."""
    prompt_loss: bool = False
    """Whether the tokens of the prompt count in the loss, too."""

    def cache_key(self) -> dict[str, object]:
        return super().cache_key() | {"completions": [self.prompt_key, self.completion_key]}

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len)

    def accept(self, piece: Piece) -> Piece:
        return self.with_texts(piece, self.prompt_key, [self.completion_key])

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        (side,) = self.sides(record, tokenizer, self.prompt_key, [self.completion_key])
        return list(side)

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        seq_len, prompt_loss = setting.seq_len, self.prompt_loss

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            tokens, counted = (field[: seq_len + 1] for field in fields)
            weights = np.ones(len(tokens) - 1) if prompt_loss else counted[1:]
            return {"tokens": tokens, "weights": weights.astype(np.float32)}

        widths = {"tokens": [seq_len + 1], "weights": [seq_len]}
        records = Records(prepared, split, 2)
        if not prompt_loss:
            records.require_completions((1,), seq_len)
        examples = RecordExamples(records, setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)
