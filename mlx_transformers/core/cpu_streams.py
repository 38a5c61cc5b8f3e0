"""How many CPU streams compute the rows of a training step: a machine's choice, never a recipe's.

Each CPU stream of MLX has a thread of its own, so two streams compute two halves of a batch at
once, also the elementwise work, which a single stream does on one core.

That needs another walk of the graph: MLX queues some operations ahead, depth first, and would
queue one half before the other. With a wide walk the halves alternate.
"""

import os
from contextvars import ContextVar

from .errors import RunError

CHOICE = "MLXT_CPU_STREAMS"
"""Environment variable with the number of streams, or `auto`, its default."""

AUTO = "auto"

PARTS: ContextVar[int] = ContextVar("parts", default=1)
"""The equal parts of a batch that are computed at once, while one of them is traced. Work that is
done in chunks to save memory takes smaller ones, so that all parts hold one chunk together."""

MOST = 64

WALK = "MLX_BFS_MAX_WIDTH"
"""MLX's variable: how wide it walks a graph before it goes deep, 20 by default. MLX reads it when
it evaluates its first graph."""

WIDE = "1000"
"""More than the operations that are ready at once in a step."""

_settled = False
"""Whether a run of this process has been built: MLX reads `WALK` once, at its first graph."""

MOST_AUTO = 4
"""The most that `auto` chooses: each stream more is a graph more to build, and only two have been
measured."""


def asked() -> int | None:
    """The number of streams that the environment names; None for `auto`.

    Raises:
        RunError: it names something else.
    """
    value = os.environ.get(CHOICE, "") or AUTO
    if value == AUTO:
        return None
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= MOST):
        raise RunError(
            f"{CHOICE} = '{value}' is not a number of CPU streams: give a whole number from 1, "
            f"one stream for the whole batch, to {MOST}, or {AUTO}: one for each core."
        )
    return int(value)


def prepare(threads: int) -> int:
    """Have MLX walk graphs wide if several streams are wanted; returns their number."""
    count = wanted(threads)
    if count > 1:
        os.environ.setdefault(WALK, WIDE)
    return count


def settle_walk(deep: bool) -> bool:
    """Choose how MLX walks graphs in this process, at the first call: MLX looks it up once.

    Args:
        deep: depth first, which keeps less in memory; otherwise as `prepare` chose.

    Returns:
        Whether this call undid the wide walk of `prepare`. A width that the user set stays, unless
        it equals `WIDE`.
    """
    global _settled
    first, _settled = not _settled, True
    if not (first and deep and os.environ.get(WALK) == WIDE):
        return False
    del os.environ[WALK]
    return True


def wanted(threads: int) -> int:
    """The number of streams: the one that the environment names, or one for each thread of a
    matrix product, where they are few.

    Args:
        threads: the threads that a matrix product uses by default; 1 where their number can't be
            changed.

    Raises:
        RunError: the environment names something that is no number of streams.
    """
    named = asked()
    if named is not None:
        return named
    return threads if threads <= MOST_AUTO else 1
