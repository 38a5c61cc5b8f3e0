"""Estimates training throughput from a chip's peak arithmetic and bandwidth, as a range.

A step takes at least the longer of two times: its operations at the chip's peak, and its bytes at
the chip's bandwidth (Williams et al. 2009, "Roofline"). The share of that bound which training
reaches is assumed, not measured: from `LEAST` to `MOST`.
"""

from dataclasses import dataclass

LEAST, MOST = 0.15, 0.5
"""Assumed share of the roofline that training reaches."""
PASSES = 3.0
"""Transfers of a saved byte: written, read again, and its gradient."""


@dataclass(frozen=True)
class Speed:
    """Estimated tokens per second, and their limit: "arithmetic" or "bandwidth"."""

    least: float
    most: float
    limit: str

    def hours(self, tokens: float) -> tuple[float, float]:
        """Shortest and longest time for a number of tokens."""
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
    """Estimate the throughput of training.

    Args:
        tokens: tokens of a step, over all microbatches.
        flops_per_token: operations of forward and backward.
        weights, state: bytes of weights and of optimizer state.
        saved: bytes that the forward of one microbatch saves for its backward.
        accumulate: microbatches of a step.
        peak_flops: operations per second.
        bandwidth: bytes per second.
    """
    # Weights are read forward and backward, and their gradient written, for each microbatch; the
    # update reads and writes weights and state once.
    moved = accumulate * (PASSES * weights + PASSES * saved) + 2 * (weights + state) + weights
    arithmetic, memory = tokens * flops_per_token / peak_flops, moved / bandwidth
    roof = tokens / max(arithmetic, memory)
    return Speed(LEAST * roof, MOST * roof, "arithmetic" if arithmetic >= memory else "bandwidth")
