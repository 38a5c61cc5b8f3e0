"""Does memory grow from step to step? A verdict on what arrays hold at equal points of the step."""

from ..core.device import GIB

RISES = 8
"""Reports in a row, each higher than the one before, until it is called a leak."""
LEAST = 2**20
"""Bytes that it must have grown by meanwhile: less is the bookkeeping of Python and MLX."""


class LeakWatch:
    """Sees active memory at every report; `verdict` is a sentence where it only ever rises.

    A step ends with as many arrays as it began with, so after the first reports the number stays or
    moves up and down. Something that keeps arrays, of metrics or of a graph, makes it rise always.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def verdict(self, step: int, active: float) -> tuple[float, str] | None:
        """Add a report; the growth in bytes per step and what to say of it, or None."""
        if self.seen and active <= self.seen[-1][1]:
            self.seen = []
        self.seen.append((step, active))
        (first, low), (last, high) = self.seen[0], self.seen[-1]
        if len(self.seen) <= RISES or high - low < LEAST:
            return None
        self.seen = self.seen[-1:]  # told once; another as long course tells it again
        growth = (high - low) / (last - first)
        return growth, (
            f"Active memory rose at each of the last {RISES} reports, from {low / GIB:.3f} to "
            f"{high / GIB:.3f} GiB: {growth / 2**20:,.2f} MiB per step. Something keeps arrays of "
            "past steps."
        )
