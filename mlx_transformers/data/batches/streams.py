"""Streams: rows that are read on in the next batch, for models that carry their state."""

from typing import ClassVar, Literal

import numpy as np

from ...core.errors import DataError
from ..batching import Batch, Batching, Setting
from ..prepared import Prepared
from ..rows import segments
from ..split import Split
from .packed import PackedPass


class Streams(Batching):
    """The text cut into B parts that are read side by side, T tokens a batch; row b of a batch goes
    on where row b of the one before ended (Mikolov et al. 2010; Zaremba et al. 2014, section 4.1).

    A recurrent model then begins each row with the state it ended with: backpropagation through
    time truncated at T, while what is remembered is not. `data.shuffle` only moves the place where
    an epoch's first part begins.
    """

    kind: Literal["streams"] = "streams"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "segments", "starts")
    covers_text: ClassVar[bool] = True

    def train(self, prepared: Prepared, setting: Setting) -> "StreamRows":
        return StreamRows(prepared, setting)

    def held_out(self, prepared: Prepared, split: Split, setting: Setting) -> PackedPass:
        """Each row on its own, from an empty state."""
        return PackedPass(prepared, split, setting)


class StreamRows:
    """`tokens` int32 [B, T + 1], where documents are masked `segments`, and `starts` int32 [B]: 1
    for rows that go on from nothing, at the beginning of an epoch or of a document."""

    shapes = 1

    def __init__(self, prepared: Prepared, setting: Setting) -> None:
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
        """The arrays of rows [B]."""
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
