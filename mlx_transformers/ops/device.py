"""Which form of an operation to run: the machine decides, and only `ops/` asks."""

import mlx.core as mx


def on_cpu() -> bool:
    """Whether arrays are computed on the CPU, where elementwise forms beat `mx.fast`."""
    return mx.default_device().type == mx.DeviceType.cpu


def upcast(x: mx.array) -> mx.array:
    """`x` in the precision sums are taken in: float32, or float64 where it was float64 already."""
    return x if x.dtype == mx.float64 else x.astype(mx.float32)
