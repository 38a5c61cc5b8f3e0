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
from .fields import string, with_words
from .record_kind import RecordKind


class Completions(RecordKind):
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
        keys = (self.prompt_key, self.completion_key)
        return with_words(piece, self.kind, keys, keys)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        prompt, completion = (string(record, key) for key in (self.prompt_key, self.completion_key))
        return list(answered(tokenizer, prompt, completion))

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


def answered(
    tokenizer: Tokenizer, prompt: str, completion: str, special_tokens: bool = False
) -> tuple[list[int], list[int]]:
    """The tokens of a prompt with its completion, the tokenizer's prefix before and its end of text
    after them, and 1 for each token of the completion; with `special_tokens` those that the texts
    spell out are tokens."""
    encode = tokenizer.encode_special_with_ends if special_tokens else tokenizer.encode_with_ends
    tokens, ends = encode(prompt + completion)
    border = len(prompt.encode())
    in_completion = (np.asarray(ends) > border).astype(int).tolist()
    prefix = list(tokenizer.prefix)
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return [*prefix, *tokens, *end], [0] * len(prefix) + in_completion + [1] * len(end)
