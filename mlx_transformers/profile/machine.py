"""What this machine can do at best: the matrix product and the copy that use is a share of."""

import mlx.core as mx

from ..core.device import matmul_flops
from .timing import seconds

MIB = 2**20


class Peaks:
    """The best matrix product and copy seen; `look` is called between other measurements.

    The best and not the median, since whatever else runs can only slow them down.
    """

    def __init__(self, dtype: mx.Dtype) -> None:
        self.dtype = dtype
        self.matmul_flop_per_s = 0.0
        self.copy_bytes_per_s = 0.0

    def look(self) -> None:
        """Measure both once more."""
        self.matmul_flop_per_s = max(self.matmul_flop_per_s, matmul_flops(self.dtype, repeats=2))
        size = (64 if mx.default_device() == mx.cpu else 512) * MIB
        source = mx.zeros((size // 4,), dtype=mx.float32)  # not kept: a step's peak is its own
        mx.eval(source)
        # A copy reads each byte and writes it.
        took = min(seconds(lambda: source + 1) for _ in range(2))
        self.copy_bytes_per_s = max(self.copy_bytes_per_s, 2 * source.nbytes / took)
