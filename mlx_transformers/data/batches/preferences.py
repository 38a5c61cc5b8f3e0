"""Preferences: a prompt with a chosen and a rejected completion."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record, RowError
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .fields import is_number
from .written import WrittenKind

SIDES = ("chosen", "rejected")


class Preferences(WrittenKind):
    """A prompt, and two completions of which one was preferred (Ouyang et al. 2022, section 3.5).

    `chosen`, `rejected` [B, T + 1]: prompt and completion, padded on the right; `chosen_counted`,
    `rejected_counted` [B, T]: 1 where a token of the completion or its end-of-text token is
    predicted; `margin` [B]: how much better the chosen one is, 0 without `margin_key`;
    `weights` [B], 1 for a real row, 0 for padding. Longer rows lose their end.
    """

    kind: Literal["preferences"] = "preferences"
    gives: ClassVar[tuple[str, ...]] = (
        "chosen",
        "chosen_counted",
        "rejected",
        "rejected_counted",
        "margin",
        "weights",
    )

    prompt_key: str = "prompt"
    """Field of the prompt."""
    chosen_key: str = "chosen"
    """Field of the preferred completion."""
    rejected_key: str = "rejected"
    """Field of the other completion."""
    margin_key: str | None = None
    """Field of a number, how much better the chosen completion is; none: all margins are 0."""

    def cache_key(self) -> dict[str, object]:
        margin = [self.margin_key] if self.margin_key else []
        keys = [self.prompt_key, self.chosen_key, self.rejected_key, *margin]
        return super().cache_key() | {"preferences": keys}

    def columns(self, seq_len: int) -> Columns:
        return Columns(2 * seq_len, 2 * seq_len)

    def accept(self, piece: Piece) -> Piece:
        margin = [self.margin_key] if self.margin_key else []
        keys = [self.chosen_key, self.rejected_key]
        checked = self.with_texts(piece, self.prompt_key, keys, margin)
        assert checked.record is not None, "with_texts has seen to it"
        self._margin(checked.record, checked.where)
        return checked

    def _margin(self, record: Record, where: str = "a record") -> float:
        """The margin of a record.

        Raises:
            RowError: it is not a finite number.
        """
        value = record[self.margin_key] if self.margin_key else 0.0
        if not is_number(value):
            raise RowError(
                f"{where}: the field '{self.margin_key}' is {value!r:.60}, and a margin is a "
                "finite number."
            )
        return float(value)

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        keys = [self.chosen_key, self.rejected_key]
        sides = self.sides(record, tokenizer, self.prompt_key, keys)
        margin = [list(repr(self._margin(record)).encode())] if self.margin_key else []
        return [*(part for side in sides for part in side), *margin]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        seq_len = setting.seq_len

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            margin = float(bytes(fields[4].astype(np.uint8))) if len(fields) > 4 else 0.0
            out: dict[str, ArrayLike] = {"weights": np.float32(1), "margin": np.float32(margin)}
            for side, at in zip(SIDES, (0, 2), strict=True):
                tokens, counted = (field[: seq_len + 1] for field in fields[at : at + 2])
                out |= {side: tokens, f"{side}_counted": counted[1:].astype(np.float32)}
            return out

        widths = {side: [seq_len + 1] for side in SIDES}
        widths |= {f"{side}_counted": [seq_len] for side in SIDES}
        n_fields = 5 if self.margin_key else 4
        records = Records(prepared, split, n_fields)
        records.require_completions((1, 3), seq_len)
        examples = RecordExamples(records, setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)
