"""Masked sentence pairs for next-sentence prediction (BERT) or sentence order (ALBERT)."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ..example_rows import EvalWindows, ExampleRows, Row, Windows
from ..kinds import BatchKind, BatchSetting, Columns
from ..noise.masking import budget
from ..noise.sentence_pairs import Task, border, longest_document, paired
from ..noise.words import sentence_table
from ..prepared import Prepared
from ..shards import Split
from .labeled import fitted
from .masked import Masker, Masking
from .noisy_windows import encoder_widths, with_cls_sep

_Example = tuple[int, np.ndarray]
"""Start of a window and its tokens."""


class SentencePairs(BatchKind):
    """`[CLS] A [SEP] B [SEP]` with masked tokens: BERT's two tasks (Devlin et al. 2018, section
    3.1) or ALBERT's (Lan et al. 2019, section 3.1).

    A and B are the longest part of a window within one document, cut after a sentence. Arrays as
    for `mlm`, and `types` [B, T] and `label` [B]: 0 if B follows A in the text, else 1.
    """

    kind: Literal["sentence_pairs"] = "sentence_pairs"
    gives: ClassVar[tuple[str, ...]] = (
        *("tokens", "targets", "weights", "valid", "places"),
        *("types", "label"),
    )

    task: Task = "next"
    """The negative half of the rows: "next", B from elsewhere; "order", A and B swapped."""
    masking: Masking = Masking()
    """Rule that chooses the masked tokens."""
    short_share: float = Field(0.1, ge=0, le=1)
    """Part of the rows that is cut to a random length, so that the model sees short inputs too
    (`short_seq_prob` in BERT's code)."""

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, self._places(seq_len), masked=True)

    def controls(self) -> tuple[str, ...]:
        return ("cls", "sep", "mask")

    def _places(self, seq_len: int) -> int:
        # A and B each round their share up.
        return budget(seq_len - 3, self.masking.share) + 2

    def train(self, prepared: Prepared, setting: BatchSetting) -> ExampleRows[_Example]:
        windows = Windows(prepared, setting.seq_len - 3, setting)
        return self._rows(prepared, "train", _Placed(windows), setting)

    def held_out(
        self, prepared: Prepared, split: Split, setting: BatchSetting
    ) -> ExampleRows[_Example]:
        windows = EvalWindows(prepared, split, setting.seq_len - 3)
        return self._rows(prepared, split, _Placed(windows), setting)

    def _rows(
        self, prepared: Prepared, split: Split, examples: "_Placed", setting: BatchSetting
    ) -> ExampleRows[_Example]:
        tokenizer, text = prepared.tokenizer, prepared.tokens(split)
        masker, ends = Masker(self.masking, tokenizer), sentence_table(tokenizer)
        boundaries, room = prepared.boundaries(split), setting.seq_len - 3

        def make(example: _Example, rng: np.random.Generator) -> Row:
            start, window = example
            window = window[longest_document(boundaries, start, len(window))]
            if rng.random() < self.short_share:
                window = window[: int(rng.integers(2, max(3, len(window) + 1)))]
            if len(window) < 2:
                window = np.resize(window, 2)
            at = border(window, ends, rng)
            first, second = window[:at], window[at:]
            place = int(rng.integers(0, max(1, len(text) - len(second))))
            random_text = text[place : place + len(second)].astype(np.int32)
            a, b, label = paired(first, second, random_text, self.task, rng)
            a, b = fitted([a, b], room)
            (given_a, chosen_a), (given_b, chosen_b) = masker(a, rng), masker(b, rng)
            row = with_cls_sep(tokenizer, given_a, given_b)
            weights = np.concatenate([[0], chosen_a, [0], chosen_b, [0]]).astype(np.float32)
            targets = with_cls_sep(tokenizer, a, b)["tokens"]
            places = np.flatnonzero(weights)
            row |= {"targets": targets, "weights": weights, "places": places}
            return {**row, "label": label}

        widths = encoder_widths(setting.seq_len, "targets", "weights", "types")
        widths["places"] = [self._places(setting.seq_len)]
        return ExampleRows(examples, make, widths, setting.seed)


class _Placed:
    """Windows of text with their start positions."""

    def __init__(self, windows: Windows | EvalWindows) -> None:
        self.windows = windows
        self.per_epoch, self.size = windows.per_epoch, windows.size

    def at(self, row: int) -> tuple[_Example, tuple[int, int]]:
        tokens, key = self.windows.at(row)
        return (self.windows.start(row), tokens), key
