"""How fast a step could be: an estimate from peak arithmetic and bandwidth, as a range.

A step takes at least the longer of two times: its operations at the chip's peak, and its bytes at
the chip's bandwidth (Williams et al. 2009, "Roofline"). What real training reaches of that lies in
a range which is assumed here, not measured: `LEAST` and `MOST`.
"""

from dataclasses import dataclass

LEAST, MOST = 0.15, 0.5
"""The share of the roof that training is assumed to reach."""
PASSES = 3.0
"""How often a byte that was kept moves: written, read again, and its gradient beside it."""


@dataclass(frozen=True)
class Speed:
    """Estimated tokens per second, and what limits them: "arithmetic" or "bandwidth"."""

    least: float
    most: float
    limit: str

    def hours(self, tokens: float) -> tuple[float, float]:
        """Shortest and longest time for so many tokens."""
        return tokens / self.most / 3600, tokens / self.least / 3600


def speed(
    *,
    tokens: int,
    flops_per_token: float,
    weights: float,
    state: float,
    saved: float,
    accumulate: int,
    peak_flops: float,
    bandwidth: float,
) -> Speed:
    """The range for a step.

    Args:
        tokens: of the whole step.
        flops_per_token: forward and backward.
        weights, state: bytes of weights and of optimizer state.
        saved: bytes that the forward of one microbatch saves for its backward.
        accumulate: microbatches of the step.
        peak_flops: operations per second.
        bandwidth: bytes per second.
    """
    # Weights are read forward and backward, and their gradient written, for each microbatch; the
    # update reads and writes weights and state once.
    moved = accumulate * (PASSES * weights + PASSES * saved) + 2 * (weights + state) + weights
    arithmetic, memory = tokens * flops_per_token / peak_flops, moved / bandwidth
    roof = tokens / max(arithmetic, memory)
    return Speed(LEAST * roof, MOST * roof, "arithmetic" if arithmetic >= memory else "bandwidth")
