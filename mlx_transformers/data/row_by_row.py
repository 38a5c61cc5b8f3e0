"""Rows made one at a time: an example and a random generator in, arrays out, padded to a width."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..core.errors import DataError
from .batching import Batch, Setting
from .order import Order
from .prepared import Prepared
from .records import Records
from .rows import Rows
from .split import Split

HELD_OUT = 1 << 32
"""The epoch that noise of evaluation is drawn for: no training comes as far."""

Make = Callable[[Any, np.random.Generator], Mapping[str, Any]]
"""`(example, rng)` to the arrays of one row: lists up to a width, or single numbers."""

Widths = Mapping[str, Sequence[int]]
"""Declared widths of each array, ascending; the i-th of all go together."""


class Examples(Protocol):
    """Where the examples of rows come from."""

    per_epoch: int
    size: int

    def at(self, row: int) -> tuple[Any, tuple[int, int]]:
        """The example of a row; and the epoch and place that its noise is drawn for."""
        ...


class RowByRow:
    """`make` of every row's example, padded with zeros to the least declared width that holds
    the batch; `weights` and `valid` are 0 there.

    Noise is drawn from the seed, the epoch and the place, so it is new in each epoch and the same
    on every rank, after a resume, and whatever the batch size.
    """

    def __init__(self, examples: Examples, make: Make, widths: Widths, seed: int) -> None:
        self.examples, self.make, self.widths, self.seed = examples, make, widths, seed
        self.per_epoch, self.size = examples.per_epoch, examples.size
        self.shapes = max(map(len, widths.values()), default=1)

    def batch(self, rows: np.ndarray) -> Batch:
        """The arrays of rows [B]."""
        return collate([self._row(int(row)) for row in rows], self.widths)

    def _row(self, row: int) -> dict[str, np.ndarray]:
        example, key = self.examples.at(row)
        rng = np.random.default_rng([self.seed, *key])
        return {name: np.asarray(value) for name, value in self.make(example, rng).items()}


def collate(rows: Sequence[Mapping[str, np.ndarray]], widths: Widths) -> Batch:
    """The rows of a batch as arrays of one declared shape."""
    needs = {name: max(len(row[name]) for row in rows) for name in widths}
    choice = max(
        next(i for i, width in enumerate(widths[name]) if width >= need)
        for name, need in needs.items()
    )
    out = {}
    for name in rows[0]:
        first = rows[0][name]
        if name not in widths:
            out[name] = np.stack([row[name] for row in rows])
            continue
        out[name] = np.zeros((len(rows), widths[name][choice]), first.dtype)
        for place, row in enumerate(rows):
            out[name][place, : len(row[name])] = row[name]
    return {name: _narrow(array) for name, array in out.items()}


def _narrow(array: np.ndarray) -> np.ndarray:
    """int32, float32 or bool: what arrays on the device are."""
    if array.dtype == np.bool_:
        return array
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


class RecordExamples:
    """Every record once an epoch, in random order.

    Args:
        widths: of the fields, as declared; rows of like length come together where there are
            several.
        limit: so many records, drawn by the seed, in place of all; of one seed, fewer are among
            more.

    Raises:
        DataError: there are fewer than `limit`.
    """

    def __init__(
        self,
        records: Records,
        setting: Setting,
        *,
        train: bool,
        widths: Sequence[int] = (),
        limit: int | None = None,
    ) -> None:
        self.records, self.train = records, train
        if limit is not None and limit > len(records):
            raise DataError(
                f"data.batch.n_examples = {limit:,} is more than the {len(records):,} records that "
                "there are to learn from. Take fewer, or leave it out to take all."
            )
        self._places = np.arange(len(records))
        if limit is not None:
            drawn = np.random.default_rng(setting.seed).permutation(len(records))
            self._places = np.sort(drawn[:limit])
        self.per_epoch = self.size = len(self._places)
        sizes = None
        if len(widths) > 1:
            sizes = np.searchsorted(widths, records.lengths().max(axis=1)[self._places])
        self._order = Order(self.size, setting.seed, train and setting.shuffle, sizes)

    def at(self, row: int) -> tuple[tuple[np.ndarray, ...], tuple[int, int]]:
        epoch, number = self._order.at(row)
        place = int(self._places[number])
        return self.records[place], (epoch if self.train else HELD_OUT, place)


class Windows:
    """Windows of `length` tokens of running text, cut anew each epoch (see `rows.Rows`).

    With `copies`, they are always cut at the same places, and epoch e gets the noise of epoch
    e % copies: what BERT's data did once, for ten copies.
    """

    def __init__(
        self, prepared: Prepared, length: int, setting: Setting, copies: int | None = None
    ) -> None:
        tokens = prepared.tokens("train")
        self.length, self.copies, self.size = length, copies, len(tokens)
        phase = copies is None
        self._rows = Rows(tokens, length, setting.seed, setting.shuffle, phase=phase)
        self.per_epoch = self._rows.per_epoch

    def start(self, row: int) -> int:
        """Where in the text a row's window starts."""
        return int(self._rows.starts(np.array([row]))[0])

    def at(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        start = self.start(row)
        tokens = self._rows.tokens[start : start + self.length].astype(np.int32)
        epoch, place = divmod(row, self.per_epoch)
        if self.copies is not None:
            return tokens, (epoch % self.copies, start)
        return tokens, (epoch, place)


class Pass:
    """Windows of `length` tokens over a split in order; the last may be shorter."""

    def __init__(self, prepared: Prepared, split: Split, length: int) -> None:
        self.tokens, self.length = prepared.tokens(split), length
        self.size = len(self.tokens)
        if self.size < 2:
            raise DataError(
                f"The split '{split}' of {prepared.folder.name} has {self.size} tokens, "
                "too few to evaluate: give data.valid_fraction or data.valid_path."
            )
        self.per_epoch = -(-self.size // length)

    def start(self, row: int) -> int:
        """Where in the split a row's window starts."""
        return row * self.length

    def at(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        part = self.tokens[row * self.length : (row + 1) * self.length]
        return part.astype(np.int32), (HELD_OUT, row)
