"""BigBird's random blocks, drawn as the published code draws them.

The code of the paper and its port in transformers choose, for every head and every block of queries
but the first and the last, the blocks of keys that it reads beside its neighbours and the first and
last block. Both draw them by NumPy's legacy generator, seeded with the layer's index.
"""

import numpy as np

OLD_LENGTHS = (1024, 3072, 4096)
"""Lengths whose blocks are drawn by the paper's first plan, for the longest sequence at once."""


def random_blocks(
    length: int, block: int, n_random: int, n_heads: int, seed: int, longest: int
) -> np.ndarray:
    """The random blocks `[H, N - 2, r]` of the N blocks of a sequence.

    Args:
        length: tokens of the sequence, a multiple of `block`.
        block: tokens of a block.
        n_random: random blocks r of each block of queries.
        n_heads: heads H.
        seed: seed of the layer.
        longest: longest sequence of the model, for which the plan of 1,024, 3,072 and 4,096 tokens
            is drawn. Others choose among the first `2 r + 5` blocks.

    Raises:
        ValueError: there are no more blocks than that, so that the published code reads all.
    """
    rng = np.random.RandomState(seed)
    n = length // block
    if length in OLD_LENGTHS:
        heads = [_up_to(rng, longest // block, n_random, 1024 // block) for _ in range(n_heads)]
        return np.stack(heads)[:, : n - 2]
    among = 2 * n_random + 5
    if n <= among:
        raise ValueError(f"{n} blocks are too few for {n_random} random ones; {among + 1} do.")
    rows = [[_choose(rng, row, among, n_random) for _ in range(n_heads)] for row in range(1, n)]
    return np.array(rows, np.int32).reshape(n - 1, n_heads, n_random).swapaxes(0, 1)[:, : n - 2]


def _up_to(rng: np.random.RandomState, n: int, n_random: int, limit: int) -> np.ndarray:
    """Random blocks `[n - 2, r]` of one head among the first `limit` blocks: the first plan."""
    chosen = np.zeros((n - 2, n_random), np.int32)
    inner = np.arange(1, n - 1, dtype=np.int32)
    last = limit - 1 if limit > 2 else n - 1
    for i in range(1, n - 1):
        start, end = i - 2, i
        if i == 1:
            among = inner[2:last]
        elif i == 2:
            among = inner[3:last]
        elif i >= n - 3 or start > last:
            among = inner[:last]
        elif end + 1 == last:
            among = inner[:start]
        else:
            among = np.concatenate((inner[:start], inner[end + 1 : last]))
        chosen[i - 1] = rng.permutation(among)[:n_random]
    return chosen


def _choose(rng: np.random.RandomState, row: int, n: int, count: int) -> list[int]:
    """`count` of the first n blocks, of those that the block `row` doesn't read anyway."""
    excluded = {row - 1, row, row + 1, 0, n - 1}
    if row == 1:
        excluded.add(n - 2)
    if row == n - 2:
        excluded.add(1)
    drawn = rng.permutation(np.arange(n, dtype=np.int32))
    return [block for block in drawn.tolist() if block not in excluded][:count]
