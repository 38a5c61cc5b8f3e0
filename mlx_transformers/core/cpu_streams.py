"""How many CPU streams compute the rows of a training step: a machine's choice, never a recipe's.

Each CPU stream of MLX has a thread of its own, so two streams compute two halves of a batch at
once. That needs another walk of the graph: MLX queues about ten operations ahead, depth first, and
would queue one half before the other. With a wide walk the halves alternate. MLX reads the width at
its first evaluation, so `core.backend` sets it before MLX loads.
"""

import os

from .errors import RunError

CHOICE = "MLXT_CPU_STREAMS"
"""Environment variable with the number of streams; 1, its default, is one for the whole batch."""

MOST = 64

WALK = "MLX_BFS_MAX_WIDTH"
"""MLX's variable: how wide it walks the graph before it goes deep; 20 by default."""
WIDTH = "1000"
"""More than the operations that are ready at once in a step."""


def wanted() -> int:
    """The number of streams that the environment asks for.

    Raises:
        RunError: it asks for something else.
    """
    value = os.environ.get(CHOICE, "") or "1"
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= MOST):
        raise RunError(
            f"{CHOICE} = '{value}' is not a number of CPU streams: give a whole number from 1, "
            f"one stream for the whole batch, to {MOST}. 2 suits a machine with two cores."
        )
    return int(value)


def prepare() -> int:
    """Have MLX walk graphs wide if several streams are wanted; returns their number."""
    count = wanted()
    if count > 1:
        os.environ.setdefault(WALK, WIDTH)
    return count
