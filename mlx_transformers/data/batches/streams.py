"""Stateful batches: each row continues in the next batch, for truncated BPTT."""

from typing import ClassVar, Literal

import numpy as np

from ...core.errors import DataError
from ..kinds import BatchKind, BatchSetting
from ..prepared import Prepared
from ..shards import Batch, Split
from ..text_rows import segments
from .packed import PackedPass


class Streams(BatchKind):
    """The text cut into B parts that are read in parallel, T tokens per batch; row b of a batch
    continues row b of the previous one (Mikolov et al. 2010; Zaremba et al. 2014, section 4.1).

    A recurrent model starts each row with the state that it ended with: gradients are truncated at
    T tokens (truncated BPTT), the state is not. `data.shuffle` only moves the position where an
    epoch begins.
    """

    kind: Literal["streams"] = "streams"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "segments", "starts")
    covers_text: ClassVar[bool] = True

    def train(self, prepared: Prepared, setting: BatchSetting) -> "StreamRows":
        return StreamRows(prepared, setting)

    def held_out(self, prepared: Prepared, split: Split, setting: BatchSetting) -> PackedPass:
        """Return independent rows, each from a zero state."""
        return PackedPass(prepared, split, setting)


class StreamRows:
    """`tokens` int32 [B, T + 1], with masked documents `segments`, and `starts` int32 [B]: 1 for
    rows that start from a zero state, at the beginning of an epoch or of a document."""

    shapes = 1

    def __init__(self, prepared: Prepared, setting: BatchSetting) -> None:
        self.tokens, self.seq_len = prepared.tokens("train"), setting.seq_len
        self.streams, self.seed, self.shuffle = setting.batch_size, setting.seed, setting.shuffle
        self.size = len(self.tokens)
        self._batches = (self.size - 1) // (self.streams * self.seq_len)
        if not self._batches:
            raise DataError(
                f"{self.streams} streams of rows of train.seq_len={self.seq_len} need "
                f"{self.streams * self.seq_len + 1} tokens, and the training split has "
                f"{self.size}. Take a smaller train.batch_size or train.seq_len, or more text."
            )
        self.per_epoch = self._batches * self.streams
        self._slack = min(self.seq_len, self.size - self.per_epoch * self.seq_len)
        self._boundaries = prepared.boundaries("train") if setting.mask_documents else None

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the arrays of rows [B]."""
        epochs, places = np.divmod(rows, self.per_epoch)
        numbers, streams = np.divmod(places, self.streams)
        at = (streams * self._batches + numbers) * self.seq_len
        at += np.array([self._phase(int(epoch)) for epoch in epochs], dtype=np.int64)
        out = {
            "tokens": self.tokens.rows(at, self.seq_len + 1),
            "starts": (numbers == 0).astype(np.int32),
        }
        if self._boundaries is not None:
            out["segments"] = segments(self._boundaries, at, self.seq_len + 1)
            out["starts"] |= np.isin(at, self._boundaries)
        return out

    def _phase(self, epoch: int) -> int:
        if not self.shuffle:
            return 0
        return int(np.random.default_rng([self.seed, epoch]).integers(0, self._slack))
