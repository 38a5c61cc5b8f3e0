"""Pairs of texts with similar meaning, for training sentence embeddings."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .noisy_windows import with_cls_sep
from .record_kind import RecordKind


class TextPairs(RecordKind):
    """Pairs of texts that belong together; the other texts of a batch are the negatives: Henderson
    et al. 2017, section 4.4; Reimers & Gurevych 2019.

    `a`, `b` [B, T], `a_valid`, `b_valid` [B, T], and `weights` [B], 1 for a real pair, 0 for
    padding.
    """

    kind: Literal["contrastive"] = "contrastive"
    gives: ClassVar[tuple[str, ...]] = ("a", "a_valid", "b", "b_valid", "weights")

    a_key: str = "a"
    """Field of the first text."""
    b_key: str = "b"
    """Field of the second text."""

    def columns(self, seq_len: int) -> Columns:
        return Columns(2 * seq_len, 0, masked=True)

    def controls(self) -> tuple[str, ...]:
        return ("cls", "sep")

    def cache_key(self) -> dict[str, object]:
        return super().cache_key() | {"contrastive": [self.a_key, self.b_key]}

    def accept(self, piece: Piece) -> Piece:
        keys = (self.a_key, self.b_key)
        return with_words(piece, self.kind, keys, keys)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        return [tokenizer.encode(string(record, key)) for key in (self.a_key, self.b_key)]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        tokenizer, seq_len = prepared.tokenizer, setting.seq_len

        def make(pair: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            out: dict[str, ArrayLike] = {"weights": np.float32(1)}
            for name, text in zip("ab", pair, strict=True):
                row = with_cls_sep(tokenizer, text[: seq_len - 2])
                out |= {name: row["tokens"], f"{name}_valid": row["valid"]}
            return out

        widths = {name: [seq_len] for name in ("a", "a_valid", "b", "b_valid")}
        examples = RecordExamples(Records(prepared, split, 2), setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)
