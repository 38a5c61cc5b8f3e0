"""The streams that training and evaluation read: batches of rows, as NumPy arrays."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.errors import DataError
from .cursor import Cursor
from .prefetch import Loader, best_loader, prefetched
from .prepared import Prepared
from .rows import Batch, Rows, segments, share
from .split import Split


class TrainStream:
    """Endless batches of the training split: `tokens` int32 [B, T + 1], and with
    `mask_documents` also `segments` int32 [B, T + 1], the document of each token in its row.

    Batch k is a pure function of the text, the seed, k, and the sizes; `cursor` is saved with
    the model and given back to go on exactly there. With `world` processes each gets its
    B / `world` rows of every batch.

    Raises:
        DataError: the split is shorter than a row, or the cursor is another stream's.
    """

    def __init__(
        self,
        prepared: Prepared,
        batch_size: int,
        seq_len: int,
        *,
        seed: int,
        cursor: dict[str, Any] | None = None,
        shuffle: bool = True,
        mask_documents: bool = False,
        rank: int = 0,
        world: int = 1,
        loader: Loader | None = None,
    ) -> None:
        self.rows = Rows(prepared.tokens("train"), seq_len, seed, shuffle)
        self.batch_size = batch_size
        self.loader = loader or best_loader()
        here = Cursor(0, seed, seq_len, len(self.rows.tokens), shuffle)
        self._cursor = here.resumed(cursor)
        self._first = self._cursor.rows
        self._share = share(batch_size, rank, world)
        self._boundaries = prepared.boundaries("train") if mask_documents else None
        self._batches: Iterator[Batch] | None = None
        self._made_tokens, self._made_s = 0, 0.0

    @property
    def cursor(self) -> dict[str, Any]:
        """The place after the last batch given out; batches made ahead don't count."""
        return self._cursor.to_dict()

    @property
    def epoch(self) -> float:
        """How often the text has been gone through."""
        return self._cursor.rows / self.rows.per_epoch

    @property
    def tokens_per_s(self) -> float:
        """Tokens that the loader makes in a second of its own time: above the step's rate, the
        device never waits for data. NaN before the first batch."""
        return self._made_tokens / self._made_s if self._made_s else float("nan")

    def batch(self, number: int) -> Batch:
        """The batch that comes `number` after the place where this stream began."""
        began = time.perf_counter()
        first = self._first + number * self.batch_size
        rows = np.arange(first, first + self.batch_size, dtype=np.int64)[self._share]
        out = self.rows.batch(rows, self._boundaries)
        self._made_tokens += len(rows) * self.rows.seq_len
        self._made_s += time.perf_counter() - began
        return out

    def __iter__(self) -> "TrainStream":
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = prefetched(self.batch, self.loader)
        out = next(self._batches)
        self._cursor = replace(self._cursor, rows=self._cursor.rows + self.batch_size)
        return out

    def close(self) -> None:
        """Stop making batches ahead. The stream can't be read afterwards from where it stopped;
        open another one with its cursor."""
        if self._batches is not None:
            self._batches.close()  # type: ignore[attr-defined]


class EvalStream:
    """Batches of one shape over a split, in order, that predict every token once.

    `tokens` int32 [B, T + 1], `weights` float32 [B, T] (0 where a row is filled up, else 1), and
    with `mask_documents` `segments` as in training. Row i holds the tokens from i·T on. With
    `batches`, that many batches of rows spread evenly over the split, the same each time.
    Iterating again begins anew.

    Raises:
        DataError: the split has fewer than two tokens.
    """

    def __init__(
        self,
        prepared: Prepared,
        batch_size: int,
        seq_len: int,
        *,
        split: Split = "valid",
        batches: int | None = None,
        mask_documents: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.tokens = prepared.tokens(split)
        if len(self.tokens) < 2:
            raise DataError(
                f"The split '{split}' of {prepared.folder.name} has {len(self.tokens)} tokens, "
                "too few to evaluate: give data.valid_fraction or data.valid_path."
            )
        self.batch_size, self.seq_len = batch_size, seq_len
        self._share = share(batch_size, rank, world)
        self._boundaries = prepared.boundaries(split) if mask_documents else None
        n_rows = -(-(len(self.tokens) - 1) // seq_len)
        self._rows = np.arange(n_rows)
        if batches is not None and batches * batch_size < n_rows:
            count = batches * batch_size
            self._rows = np.arange(count) * n_rows // count

    def __len__(self) -> int:
        """How many batches there are."""
        return -(-len(self._rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, len(self._rows), self.batch_size):
            yield self._batch(self._rows[first : first + self.batch_size])

    def _batch(self, rows: np.ndarray) -> Batch:
        shape = (self.batch_size, self.seq_len + 1)
        tokens, ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        weights = np.zeros((self.batch_size, self.seq_len), np.float32)
        for place, row in enumerate(rows):
            start = int(row) * self.seq_len
            part = self.tokens[start : start + self.seq_len + 1]
            tokens[place, : len(part)] = part
            weights[place, : len(part) - 1] = 1
            if self._boundaries is not None:
                length = len(part)
                ids[place, :length] = segments(self._boundaries, np.array([start]), length)[0]
        out = {"tokens": tokens, "weights": weights}
        if self._boundaries is not None:
            out["segments"] = ids
        return {name: array[self._share] for name, array in out.items()}
