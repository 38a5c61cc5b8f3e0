"""The device of a computation, which decides between forms of an operation; only `ops/` asks."""

import mlx.core as mx


def on_cpu() -> bool:
    """Whether arrays are computed on the CPU, where elementwise forms beat `mx.fast`."""
    return mx.default_device().type == mx.DeviceType.cpu


def upcast(x: mx.array) -> mx.array:
    """Cast `x` to float32, the precision of sums; float64 stays float64."""
    return x if x.dtype == mx.float64 else x.astype(mx.float32)
