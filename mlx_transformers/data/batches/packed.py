"""Sequence packing: running text cut every T tokens, for causal language modelling."""

from typing import ClassVar, Literal

import numpy as np

from ...core.errors import DataError
from ..kinds import BatchKind, BatchSetting
from ..prepared import Prepared
from ..shards import Batch, Split
from ..text_rows import TextRows, segments


class Packed(BatchKind):
    """Rows of T + 1 tokens, cut from the text across documents (Radford et al. 2018); with
    `data.mask_documents` also the document of each token."""

    kind: Literal["rows"] = "rows"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "segments")
    covers_text: ClassVar[bool] = True

    def train(self, prepared: Prepared, setting: BatchSetting) -> "PackedRows":
        return PackedRows(prepared, setting)

    def held_out(self, prepared: Prepared, split: Split, setting: BatchSetting) -> "PackedPass":
        return PackedPass(prepared, split, setting)


class PackedRows:
    """`tokens` int32 [B, T + 1], and with masked documents `segments` int32 [B, T + 1]."""

    shapes = 1

    def __init__(self, prepared: Prepared, setting: BatchSetting) -> None:
        self.rows = TextRows(
            prepared.tokens("train"), setting.seq_len, setting.seed, setting.shuffle
        )
        self.per_epoch, self.size = self.rows.per_epoch, len(self.rows.tokens)
        self._boundaries = prepared.boundaries("train") if setting.mask_documents else None

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the arrays of rows [B]."""
        return self.rows.batch(rows, self._boundaries)


class PackedPass:
    """The rows of one pass: `tokens`, perhaps `segments`, and `weights` float32 [B, T], 0 in the
    padding. Row i holds the tokens from i T on."""

    shapes = 1

    def __init__(self, prepared: Prepared, split: Split, setting: BatchSetting) -> None:
        self.tokens, self.seq_len = prepared.tokens(split), setting.seq_len
        self.size = len(self.tokens)
        if self.size < 2:
            raise DataError(
                f"The split '{split}' of {prepared.folder.name} has {self.size} tokens, "
                "too few to evaluate: give data.valid_fraction or data.valid_path."
            )
        self.per_epoch = -(-(self.size - 1) // self.seq_len)
        self._boundaries = prepared.boundaries(split) if setting.mask_documents else None

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the arrays of rows [B]."""
        shape = (len(rows), self.seq_len + 1)
        tokens, ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        weights = np.zeros((len(rows), self.seq_len), np.float32)
        for place, row in enumerate(rows):
            start = int(row) * self.seq_len
            part = self.tokens[start : start + self.seq_len + 1]
            tokens[place, : len(part)] = part
            weights[place, : len(part) - 1] = 1
            if self._boundaries is not None:
                length = len(part)
                ids[place, :length] = segments(self._boundaries, np.array([start]), length)[0]
        out = {"tokens": tokens, "weights": weights}
        return out if self._boundaries is None else out | {"segments": ids}
