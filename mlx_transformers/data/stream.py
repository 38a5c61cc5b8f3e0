"""The data loaders of training and evaluation: streams of batches (DataLoader), as NumPy arrays."""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.errors import DataError
from .batches.packed import Packed
from .cursor import Cursor
from .kinds import BatchKind, BatchSetting, Rows
from .mixture import Mix, MixedRows
from .prefetch import Loader, best_loader, prefetched
from .prepared import Prepared
from .shards import Batch
from .text_rows import share

TOKENS = ("tokens", "source", "a", "b", "chosen", "rejected", "mismatched")
"""Arrays of token ids; the device doesn't check that they lie inside the vocabulary."""


class TrainStream:
    """Endless batches of the training split.

    Batch k is a pure function of the text, the seed, k and the sizes. `cursor` is saved with the
    model and passed back to resume exactly there. With `world` processes, each gets B / `world`
    rows of every batch. `wrap` puts them into another order.

    Raises:
        DataError: the split is shorter than a row, or the cursor belongs to another stream.
    """

    def __init__(
        self,
        prepared: Prepared,
        setting: BatchSetting,
        *,
        kind: BatchKind | None = None,
        cursor: dict[str, Any] | None = None,
        rank: int = 0,
        world: int = 1,
        loader: Loader | None = None,
        mix: Mix | None = None,
        wrap: Callable[[Rows], Rows] = lambda rows: rows,
    ) -> None:
        kind = kind or Packed()
        self.rows: Rows = kind.train(prepared, setting)
        self._delivered: MixedRows | None = None
        if mix is not None:
            mixed = [kind.train(prepared.mixed[text.name], setting) for text in mix.texts]
            parts = [self.rows, *mixed]
            # Counts of their own: those of `rows` move with the loader, which reads ahead.
            self.rows, self._delivered = MixedRows(parts, mix), MixedRows(parts, mix)
        self.rows = wrap(self.rows)
        self._vocab_size = prepared.vocab_size
        self.batch_size, self.seq_len = setting.batch_size, setting.seq_len
        self.loader = loader or best_loader()
        start = Cursor(0, setting.seed, self.seq_len, self.rows.size, setting.shuffle)
        self._cursor = start.resumed(cursor)
        self._first = self._cursor.rows
        self._share = share(self.batch_size, rank, world)
        self._batches: Generator[Batch, None, None] | None = None
        self._made_tokens, self._made_s = 0, 0.0

    @property
    def cursor(self) -> dict[str, Any]:
        """The position after the last batch delivered; prefetched batches don't count."""
        return self._cursor.to_dict()

    @property
    def shapes(self) -> int:
        """How many shapes its batches may have."""
        return self.rows.shapes

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second that the loader can prepare; if above the step's rate, the device never
        waits for data. NaN before the first batch."""
        return self._made_tokens / self._made_s if self._made_s else float("nan")

    def preview(self, n: int) -> list[Batch]:
        """The next `n` batches, without moving on."""
        done = (self._cursor.rows - self._first) // self.batch_size
        return [self.batch(done + i) for i in range(n)]

    def batch(self, number: int) -> Batch:
        """Return the batch `number` after the position where this stream began."""
        began = time.perf_counter()
        first = self._first + number * self.batch_size
        rows = np.arange(first, first + self.batch_size, dtype=np.int64)[self._share]
        out = _checked(self.rows.batch(rows), self._vocab_size)
        self._made_tokens += len(rows) * self.seq_len
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

    def stats(self) -> dict[str, Any]:
        """Return the tokens of the rows delivered from each text of a mixture since the run began.

        Rows that a warm-up cuts short count with all of their tokens.
        """
        if self._delivered is None:
            return {}
        names = ["data", *(text.name for text in self._delivered.mix.texts)]
        counts = self._delivered.counts(self._cursor.rows) * self.seq_len
        return {f"tokens/{name}": int(n) for name, n in zip(names, counts, strict=True)}

    def sample(self) -> None:
        """None: the model writes no text for these batches."""

    def close(self) -> None:
        """Stop prefetching. To continue afterwards, open another stream with this one's cursor."""
        if self._batches is not None:
            self._batches.close()


class EvalStream:
    """Batches of one shape over the validation split, in order, the same each time.

    The last batch is filled up with rows of weight 0. With `batches`, only that many batches, of
    rows spread evenly over the split. Iterating again starts over. `numbers` are the rows that are
    evaluated, in order.

    Raises:
        DataError: the split has nothing to evaluate.
    """

    def __init__(
        self,
        prepared: Prepared,
        setting: BatchSetting,
        *,
        kind: BatchKind | None = None,
        batches: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.rows = (kind or Packed()).held_out(prepared, "valid", replace(setting, shuffle=False))
        self._vocab_size = prepared.vocab_size
        self.batch_size = setting.batch_size
        self._share = share(self.batch_size, rank, world)
        n_rows = self.rows.per_epoch
        self.numbers = np.arange(n_rows)
        if batches is not None and batches * self.batch_size < n_rows:
            count = batches * self.batch_size
            self.numbers = np.arange(count) * n_rows // count

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.numbers) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, len(self.numbers), self.batch_size):
            yield self._batch(self.numbers[first : first + self.batch_size])

    def _batch(self, numbers: np.ndarray) -> Batch:
        missing = self.batch_size - len(numbers)
        # An empty row would leave attention without a key, so a real row with weight 0 fills up.
        rows = np.concatenate([numbers, np.repeat(numbers[-1:], missing)])
        batch = _checked(self.rows.batch(rows), self._vocab_size)
        batch["weights"][len(numbers) :] = 0
        return {name: array[self._share] for name, array in batch.items()}


def _checked(batch: Batch, vocab_size: int) -> Batch:
    for name in TOKENS:
        if name in batch and batch[name].size:
            low, high = int(batch[name].min()), int(batch[name].max())
            if low < 0 or high >= vocab_size:
                raise DataError(
                    f"A batch has the token {high if high >= vocab_size else low} in '{name}', and "
                    f"the vocabulary has {vocab_size:,}: the prepared set is damaged, or was made "
                    "with another tokenizer. Remove its folder (see mlxt data list) and run again."
                )
    return batch
