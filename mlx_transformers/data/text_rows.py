"""Rows cut from running text for training: row r is a pure function of the text, seed and r."""

import numpy as np

from ..core.errors import DataError
from .shards import Batch, Tokens


class TextRows:
    """Rows of `seq_len` + 1 tokens: the last is the target of the last input, and the first token
    of the next row in the text.

    An epoch cuts the text into `per_epoch` rows from a random offset (phase) and visits them in
    random order; both come from `default_rng([seed, epoch])`. So every epoch cuts different rows,
    predicts each token at most once, and leaves out less than two rows, at the ends.
    Without `shuffle` the phase is 0 and rows come in order; without `phase` rows are always cut at
    the same positions.

    Raises:
        DataError: the split is shorter than one row.
    """

    def __init__(
        self, tokens: Tokens, seq_len: int, seed: int, shuffle: bool, phase: bool = True
    ) -> None:
        n_tokens = len(tokens)
        if n_tokens < seq_len + 1:
            raise DataError(
                f"The context is longer than the data: a row of train.seq_len={seq_len} takes "
                f"{seq_len + 1} tokens, and the training split has {n_tokens}. Take a smaller "
                "train.seq_len or more text."
            )
        self.tokens, self.seq_len, self.seed, self.shuffle = tokens, seq_len, seed, shuffle
        spare = seq_len if shuffle else 1
        self.per_epoch = max(1, (n_tokens - spare) // seq_len)
        slack = min(seq_len - 1, n_tokens - 1 - self.per_epoch * seq_len)
        self._slack = slack if phase else 0
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def order(self, epoch: int) -> tuple[int, np.ndarray]:
        """Return the phase and the order [per_epoch] of an epoch."""
        if not self.shuffle:
            return 0, np.arange(self.per_epoch)
        order = self._orders.get(epoch)
        if order is None:
            rng = np.random.default_rng([self.seed, epoch])
            order = int(rng.integers(0, self._slack + 1)), rng.permutation(self.per_epoch)
            # A batch may span two epochs, so only the previous one is kept.
            self._orders = {n: old for n, old in self._orders.items() if n == epoch - 1}
            self._orders[epoch] = order
        return order

    def starts(self, rows: np.ndarray) -> np.ndarray:
        """Return the positions where rows [B] start in the text: int64 [B]."""
        epochs, places = np.divmod(rows, self.per_epoch)
        out = np.empty(len(rows), dtype=np.int64)
        for epoch in np.unique(epochs):
            phase, order = self.order(int(epoch))
            in_epoch = epochs == epoch
            out[in_epoch] = phase + order[places[in_epoch]] * self.seq_len
        return out

    def batch(self, rows: np.ndarray, boundaries: np.ndarray | None) -> Batch:
        """Return tokens, int32 [B, T + 1], of rows [B]; with `boundaries`, also their segments."""
        starts, length = self.starts(rows), self.seq_len + 1
        out = {"tokens": self.tokens.rows(starts, length)}
        if boundaries is not None:
            out["segments"] = segments(boundaries, starts, length)
        return out


def segments(boundaries: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Return which document of its row each token belongs to, from 0: int32 [B, length].

    `boundaries` are the positions where documents start, ascending.
    """
    marks = np.zeros((len(starts), length), dtype=np.int32)
    first = np.searchsorted(boundaries, starts + 1)
    last = np.searchsorted(boundaries, starts + length)
    for row, (begin, end) in enumerate(zip(first, last, strict=True)):
        marks[row, boundaries[begin:end] - starts[row]] = 1
    return np.cumsum(marks, axis=1, dtype=np.int32)


def share(batch_size: int, rank: int, world: int) -> slice:
    """Return the rows of a batch that belong to process `rank` of `world`.

    Raises:
        DataError: the rows don't divide evenly.
    """
    if batch_size % world:
        raise DataError(f"train.batch_size={batch_size} can't be shared by {world} processes.")
    per_process = batch_size // world
    return slice(rank * per_process, (rank + 1) * per_process)
