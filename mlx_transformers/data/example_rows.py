"""Rows built one at a time from an example and a random generator, padded to a declared width."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import DataError
from .kinds import BatchSetting
from .order import Order
from .prepared import Prepared
from .records import Records
from .shards import Batch, Split
from .text_rows import TextRows

EVAL_EPOCH = 1 << 32
"""The epoch number that seeds the noise of evaluation; training never reaches it."""

Row = Mapping[str, ArrayLike]
"""The arrays of one row: up to a declared width along their first axis, or single numbers."""

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)

Make = Callable[[E, np.random.Generator], Row]
"""Builds one row: `(example, rng) -> row`."""

Widths = Mapping[str, Sequence[int]]
"""Declared widths of each array, ascending; the i-th widths of all arrays belong together."""


class Examples(Protocol[E_co]):
    """Supplies the example of each row."""

    @property
    def per_epoch(self) -> int: ...
    @property
    def size(self) -> int: ...

    def at(self, row: int) -> tuple[E_co, tuple[int, int]]:
        """Return the example of a row, and the epoch and position that seed its noise."""
        ...


class ExampleRows(Generic[E]):
    """Applies `make` to the example of each row and pads the batch with zeros to the smallest
    declared widths that hold it; `weights` and `valid` are 0 in the padding.

    The generator is seeded by the seed, the epoch and the position. So noise is new in every epoch,
    and the same on every rank, after a resume and for any batch size.
    """

    def __init__(self, examples: Examples[E], make: Make[E], widths: Widths, seed: int) -> None:
        self.examples, self.make, self.widths, self.seed = examples, make, widths, seed
        self.per_epoch, self.size = examples.per_epoch, examples.size
        self.shapes = max(map(len, widths.values()), default=1)

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the arrays of rows [B]."""
        return collate([self._row(int(row)) for row in rows], self.widths)

    def _row(self, row: int) -> dict[str, np.ndarray]:
        example, key = self.examples.at(row)
        rng = np.random.default_rng([self.seed, *key])
        return {name: np.asarray(value) for name, value in self.make(example, rng).items()}


RecordRows = ExampleRows[tuple[np.ndarray, ...]]
"""Rows built from the fields of records."""


def collate(rows: Sequence[Mapping[str, np.ndarray]], widths: Widths) -> Batch:
    """Stack rows into arrays of one declared shape."""
    needs = {name: max(len(row[name]) for row in rows) for name in widths}
    choice = max(
        (
            next(i for i, width in enumerate(widths[name]) if width >= need)
            for name, need in needs.items()
        ),
        default=0,
    )
    out = {}
    for name in rows[0]:
        first = rows[0][name]
        if name not in widths:
            out[name] = np.stack([row[name] for row in rows])
            continue
        out[name] = np.zeros((len(rows), widths[name][choice], *first.shape[1:]), first.dtype)
        for place, row in enumerate(rows):
            out[name][place, : len(row[name])] = row[name]
    return {name: _narrow(array) for name, array in out.items()}


def _narrow(array: np.ndarray) -> np.ndarray:
    """Cast to int32, float32 or bool, the types of arrays on the device."""
    if array.dtype == np.bool_:
        return array
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


class RecordExamples:
    """Every record once an epoch, in random order.

    Args:
        widths: declared widths of the fields; with several, rows of similar length are batched
            together.
        limit: use only this many records, drawn by the seed; with one seed, a smaller set is a
            subset of a larger one.

    Raises:
        DataError: there are fewer records than `limit`.
    """

    def __init__(
        self,
        records: Records,
        setting: BatchSetting,
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
        return self.records[place], (epoch if self.train else EVAL_EPOCH, place)


class Windows:
    """Windows of `length` tokens of running text, cut anew each epoch (see `text_rows.TextRows`).

    With `copies`, windows are always cut at the same positions and epoch e gets the noise of epoch
    e % copies, as in BERT's data, which held ten masked copies of the text.
    """

    def __init__(
        self, prepared: Prepared, length: int, setting: BatchSetting, copies: int | None = None
    ) -> None:
        tokens = prepared.tokens("train")
        self.length, self.copies, self.size = length, copies, len(tokens)
        phase = copies is None
        self._rows = TextRows(tokens, length, setting.seed, setting.shuffle, phase=phase)
        self.per_epoch = self._rows.per_epoch

    def start(self, row: int) -> int:
        """Return the position in the text where a row's window starts."""
        return int(self._rows.starts(np.array([row]))[0])

    def at(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        start = self.start(row)
        tokens = self._rows.tokens[start : start + self.length].astype(np.int32)
        epoch, place = divmod(row, self.per_epoch)
        if self.copies is not None:
            return tokens, (epoch % self.copies, start)
        return tokens, (epoch, place)


class EvalWindows:
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
        """Return the position in the split where a row's window starts."""
        return row * self.length

    def at(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        part = self.tokens[row * self.length : (row + 1) * self.length]
        return part.astype(np.int32), (EVAL_EPOCH, row)
