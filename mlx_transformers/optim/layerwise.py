"""What a layer's height decides when a model is trained further: its rate, and when it begins.

    rate[l] = rate · factor^-(layers above l)       learns from update  every · (layers above l)

Discriminative fine-tuning and gradual unfreezing: Howard & Ruder 2018 (ULMFiT), sections 3.2 and
3.3. Lower layers know more of what is general, so they should forget less of it.
"""

import re
from collections.abc import Callable, Iterable

import mlx.core as mx

from .schedules import Schedule

Shape = Callable[[Schedule], Schedule]
"""What a group of parameters makes of the rate of all."""

TABLES = frozenset({"embed", "source_embed", "position"})
"""Modules that lie below the first block."""


def unchanged(rate: Schedule) -> Schedule:
    """The rate as it is."""
    return rate


def heights(paths: Iterable[str]) -> dict[str, int]:
    """How many layers lie above each parameter, by its path.

    None above what answers (heads, pools, the last norm); above block i of a stack of n blocks,
    n - i; above tables of tokens and positions, one more than above the first block of the longest
    stack.
    """
    blocks: dict[str, tuple[str, int]] = {}
    counts: dict[str, int] = {}
    paths = list(paths)
    for path in paths:
        if found := re.match(r"(.*?)\bblocks\.(\d+)\.", path):
            stack, number = found[1], int(found[2])
            blocks[path] = stack, number
            counts[stack] = max(counts.get(stack, 0), number + 1)
    lowest = max(counts.values(), default=0) + 1
    above = {}
    for path in paths:
        if path in blocks:
            stack, number = blocks[path]
            above[path] = counts[stack] - number
        else:
            above[path] = lowest if TABLES.intersection(path.split(".")) else 0
    return above


def shape(above: int, factor: float, every: int | None) -> Shape:
    """What parameters below so many layers make of the rate: an array expression of the update."""
    fraction, begins = factor**-above, above * (every or 0)

    def shaped(rate: Schedule) -> Schedule:
        def own(step: mx.array) -> mx.array:
            return mx.where(step >= begins, rate(step) * fraction, 0.0)

        return own

    return shaped
