"""Detection of memory leaks: active memory that rises from report to report."""

from ..core.device import GIB

RISES = 8
"""Consecutive reports, each higher than the last, that count as a leak."""
LEAST = 2**20
"""Smallest growth in bytes that counts: less is overhead of Python and MLX."""


class LeakWatch:
    """Watches active memory, which is measured at every report.

    A step ends with as many arrays as it began with, so the number is constant or fluctuates.
    Something that holds on to arrays, of metrics or of a graph, makes it rise every time.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def verdict(self, step: int, active: float) -> tuple[float, str] | None:
        """Add a report; return the growth in bytes per step and a warning if it is a leak."""
        if self.seen and active <= self.seen[-1][1]:
            self.seen = []
        self.seen.append((step, active))
        (first, low), (last, high) = self.seen[0], self.seen[-1]
        if len(self.seen) <= RISES or high - low < LEAST:
            return None
        self.seen = self.seen[-1:]  # reported once; as many further rises report it again
        growth = (high - low) / (last - first)
        return growth, (
            f"Active memory rose at each of the last {RISES} reports, from {low / GIB:.3f} to "
            f"{high / GIB:.3f} GiB: {growth / 2**20:,.2f} MiB per step. Something holds on to "
            "arrays of past steps."
        )
