"""The order of records in training: epoch and record of row r, counted over all epochs."""

import numpy as np

POOL = 4096
"""Rows that are sorted by length together (length bucketing)."""

BLOCK = 64
"""Rows of similar length that stay together; batches benefit if their size divides it."""


STEP = np.uint64(11400714819323198485)
"""2^64 times the golden ratio's fraction."""


def golden(rows: np.ndarray) -> np.ndarray:
    """Return the fraction of `r · golden ratio` for rows [B]: float64 [B] in [0, 1).

    Any stretch of rows covers the interval evenly, and each number depends on its row alone.
    """
    return (rows.astype(np.uint64) * STEP).astype(np.float64) / 2.0**64


class Order:
    """All of `n` records in random order, drawn from `default_rng([seed, epoch])` for each epoch.

    With `sizes [n]`, records of equal size come in blocks, so that batches need little padding: the
    random order is cut into pools, each pool is sorted, and their blocks are shuffled.
    Without `shuffle` records come in order.
    """

    def __init__(
        self, n: int, seed: int, shuffle: bool = True, sizes: np.ndarray | None = None
    ) -> None:
        self.n, self.seed, self.shuffle, self.sizes = n, seed, shuffle, sizes
        self._orders: dict[int, np.ndarray] = {}

    def at(self, row: int) -> tuple[int, int]:
        """Return the epoch and the record number of a row."""
        epoch, place = divmod(row, self.n)
        return epoch, int(self.order(epoch)[place]) if self.shuffle else place

    def order(self, epoch: int) -> np.ndarray:
        """Return the record numbers [n] of an epoch in order."""
        order = self._orders.get(epoch)
        if order is None:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(self.n)
            if self.sizes is not None:
                order = _in_blocks(order, self.sizes, rng)
            # A batch may span two epochs, so only the previous one is kept.
            self._orders = {n: old for n, old in self._orders.items() if n == epoch - 1}
            self._orders[epoch] = order
        return order


def _in_blocks(order: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pools = (order[start : start + POOL] for start in range(0, len(order), POOL))
    ordered = np.concatenate([pool[np.argsort(sizes[pool], kind="stable")] for pool in pools])
    blocks = [ordered[start : start + BLOCK] for start in range(0, len(ordered), BLOCK)]
    # A short block stays last, so that the others start at multiples of BLOCK.
    short = blocks.pop() if len(blocks[-1]) < BLOCK else ordered[:0]
    return np.concatenate([*(blocks[i] for i in rng.permutation(len(blocks))), short])
