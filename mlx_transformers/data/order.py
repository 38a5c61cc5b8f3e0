"""The order of a training split's rows: where row r, counted over all epochs, is to be found."""

import numpy as np

POOL = 4096
"""Rows that are sorted by length together."""

BLOCK = 64
"""Rows of like length that stay together; any batch size that divides it gets them."""


class Order:
    """An epoch takes all of `n` places in random order, drawn from `default_rng([seed, epoch])`.

    With `sizes [n]`, places of equal size come in blocks, so that a batch of them needs little
    padding: the random order is cut into pools, each sorted, and their blocks are shuffled.
    Without `shuffle` the order is that of the text.
    """

    def __init__(
        self, n: int, seed: int, shuffle: bool = True, sizes: np.ndarray | None = None
    ) -> None:
        self.n, self.seed, self.shuffle, self.sizes = n, seed, shuffle, sizes
        self._orders: dict[int, np.ndarray] = {}

    def at(self, row: int) -> tuple[int, int]:
        """Epoch and place of a row."""
        epoch, place = divmod(row, self.n)
        return epoch, int(self.order(epoch)[place]) if self.shuffle else place

    def order(self, epoch: int) -> np.ndarray:
        """The places [n] of an epoch."""
        found = self._orders.get(epoch)
        if found is None:
            rng = np.random.default_rng([self.seed, epoch])
            found = rng.permutation(self.n)
            if self.sizes is not None:
                found = _in_blocks(found, self.sizes, rng)
            # Of the epochs before, only the last may still be asked for.
            self._orders = {n: old for n, old in self._orders.items() if n == epoch - 1}
            self._orders[epoch] = found
        return found


def _in_blocks(order: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pools = (order[start : start + POOL] for start in range(0, len(order), POOL))
    ordered = np.concatenate([pool[np.argsort(sizes[pool], kind="stable")] for pool in pools])
    blocks = [ordered[start : start + BLOCK] for start in range(0, len(ordered), BLOCK)]
    # The last block may be short: it stays last, so that the others keep their alignment.
    short = blocks.pop() if len(blocks[-1]) < BLOCK else ordered[:0]
    return np.concatenate([*(blocks[i] for i in rng.permutation(len(blocks))), short])
