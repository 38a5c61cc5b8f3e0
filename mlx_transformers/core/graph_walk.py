"""The order in which MLX queues the operations of a graph: wide for several CPU streams.

MLX keeps about ten operations in flight and walks a graph depth first, so it would queue all of one
stream's half of a batch before the other's. With a wide walk the halves alternate.
"""

import os
from functools import cache

import mlx.core as mx

WIDTH = "MLX_BFS_MAX_WIDTH"
"""MLX's variable: how wide it walks a graph before it goes deep, 20 by default. MLX reads it when
it evaluates its first graph, and never again."""

WIDE = "1000"
"""More than the operations that are ready at once in a step."""

CHAINS = 512
CHAIN_BYTES = 4096


@cache
def walks_wide() -> bool:
    """Have MLX walk graphs wide, unless `WIDTH` is set; returns whether it does.

    It doesn't in a process that evaluated a graph before. That shows in the peak of memory of many
    chains of two operations: a wide walk queues all first operations before any second one.
    """
    os.environ.setdefault(WIDTH, WIDE)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    numbers = CHAIN_BYTES // mx.float32.size
    mx.eval(mx.stack([mx.full((numbers,), float(i)).sum() for i in range(CHAINS)]))
    return mx.get_peak_memory() - before > CHAINS * CHAIN_BYTES / 2
