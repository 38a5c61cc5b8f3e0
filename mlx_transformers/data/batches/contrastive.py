"""Two texts of like meaning each: what sentence embeddings are trained on."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from ..batching import Batching, Columns, Record, Setting
from ..pieces import Piece
from ..prepared import Prepared
from ..records import Records
from ..row_by_row import RecordExamples, RowByRow
from ..split import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import string, with_words
from .noised import framed


class TextPairs(Batching):
    """Pairs of texts that belong together; the others of a batch are what they are told from:
    Henderson et al. 2017, section 4.4; Reimers & Gurevych 2019.

    `a`, `b` [B, T], `a_valid`, `b_valid` [B, T], and `weights` [B], 1 for a pair that counts.
    """

    kind: Literal["contrastive"] = "contrastive"
    gives: ClassVar[tuple[str, ...]] = ("a", "a_valid", "b", "b_valid", "weights")
    reads_records: ClassVar[bool] = True

    a_key: str = "a"
    """Field of the one text."""
    b_key: str = "b"
    """Field of the other."""

    def columns(self, seq_len: int) -> Columns:
        return Columns(2 * seq_len, 0, masked=True)

    def controls(self) -> tuple[str, ...]:
        return ("cls", "sep")

    def stored(self) -> dict[str, Any]:
        return super().stored() | {"contrastive": [self.a_key, self.b_key]}

    def read(self, piece: Piece) -> Piece:
        keys = (self.a_key, self.b_key)
        return with_words(piece, self.kind, keys, keys)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        return [tokenizer.encode(string(record, key)) for key in (self.a_key, self.b_key)]

    def train(self, prepared: Prepared, setting: Setting) -> RowByRow:
        return self._rows(prepared, "train", setting, train=True)

    def held_out(self, prepared: Prepared, split: Split, setting: Setting) -> RowByRow:
        return self._rows(prepared, split, setting, train=False)

    def _rows(self, prepared: Prepared, split: Split, setting: Setting, train: bool) -> RowByRow:
        tokenizer, seq_len = prepared.tokenizer, setting.seq_len

        def make(pair: tuple[np.ndarray, ...], rng: np.random.Generator) -> dict[str, Any]:
            out: dict[str, Any] = {"weights": np.float32(1)}
            for name, text in zip("ab", pair, strict=True):
                row = framed(tokenizer, text[: seq_len - 2])
                out |= {name: row["tokens"], f"{name}_valid": row["valid"]}
            return out

        widths = {name: [seq_len] for name in ("a", "a_valid", "b", "b_valid")}
        examples = RecordExamples(Records(prepared, split, 2), setting, train=train)
        return RowByRow(examples, make, widths, setting.seed)
