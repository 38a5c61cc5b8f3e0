"""Reference speeds of this machine: a large matrix product and a copy."""

import mlx.core as mx

from ..core.device import matmul_flops
from .others import BUSY
from .timing import seconds

MIB = 2**20

STEADY = 0.6
"""Least share of the best that the slowest reference product may reach on an idle machine."""


class Peaks:
    """The best matrix product and copy seen; call `look` between other measurements.

    Other processes can only slow a measurement down, so the best is kept and not the median. The
    matrix products of all looks are kept to tell whether they were disturbed.
    """

    def __init__(self, dtype: mx.Dtype) -> None:
        # On the CPU, products of half precision are slow and the model's own are in float32.
        self.dtype = mx.float32 if mx.default_device() == mx.cpu else dtype
        self.products: list[float] = []
        self.copy_bytes_per_s = 0.0

    @property
    def matmul_flop_per_s(self) -> float:
        """Floating-point operations per second of the fastest reference product."""
        return max(self.products, default=0.0)

    def look(self) -> None:
        """Measure both once more."""
        self.products.append(matmul_flops(self.dtype, repeats=2))
        size = (64 if mx.default_device() == mx.cpu else 512) * MIB
        source = mx.zeros((size // 4,), dtype=mx.float32)  # not kept: a step's peak is its own
        mx.eval(source)
        # A copy reads each byte and writes it.
        took = min(seconds(lambda: source + 1) for _ in range(2))
        self.copy_bytes_per_s = max(self.copy_bytes_per_s, 2 * source.nbytes / took)

    def utilization(
        self, flop_per_s: float, others: float | None
    ) -> tuple[float | None, str | None]:
        """Model FLOPs utilization (MFU), or None and the reason why it can't be given.

        Chowdhery et al. 2022 (PaLM), appendix B, relative to the reference product measured here.
        `others` is the share of the cores' time that other processes took; None: unknown.
        """
        cause = _cause(others)
        share = flop_per_s / self.matmul_flop_per_s
        slowest = min(self.products) / self.matmul_flop_per_s
        if share > 1:
            return None, (
                f"the step ran at {share:.0%} of the reference product, which was slowed down: "
                f"{cause}"
            )
        if slowest < STEADY:
            return None, (
                f"the reference product fell to {slowest:.0%} of its best while measuring: {cause}"
            )
        return share, None


def _cause(others: float | None) -> str:
    """Say why a reference product was slow, and what to do."""
    if others is None:
        return "other processes, or heat; measure again on an idle machine"
    if others > BUSY:
        taken = f"other processes took {others:.0%} of the cores' time"
        return f"{taken}; measure again on an idle machine"
    return (
        f"the processor's clock fell (heat, battery), since other processes took {others:.0%} of "
        "the cores' time; measure again"
    )
