"""Convolutions over time that step over several frames, as matrix products on the CPU."""

import mlx.core as mx

from ..core.shapes import Array
from .device import on_cpu


def strided_conv(x: Array, kernel: Array, bias: Array, stride: int, padding: int) -> Array:
    """Convolve frames `[B, T, C]`, padded with zeros at both ends, with a kernel `[D, W, C]`.

    The result is `[B, N, D]` with `N = (T + 2 padding - W) // stride + 1`.

    MLX's gradient of a convolution with a stride is slow on the CPU, 18 times slower than this.
    """
    if stride == 1 or not on_cpu():
        return strided_conv_naive(x, kernel, bias, stride, padding)
    D, width, _ = kernel.shape
    x = mx.pad(x, [(0, 0), (padding, padding), (0, 0)])
    last = stride * ((x.shape[1] - width) // stride) + 1
    windows = [x[:, first : first + last : stride] for first in range(width)]
    return mx.concatenate(windows, axis=-1) @ kernel.reshape(D, -1).T + bias


def saved_frames(width: int, stride: int, *, cpu: bool) -> int:
    """Frames for each output that the backward of `strided_conv` needs: on the CPU those of all
    windows, where windows are copied, and otherwise those of the input.

    Args:
        width, stride: W, and the frames from one output to the next.
        cpu: whether it runs on the CPU.
    """
    return width if cpu and stride > 1 else stride


def strided_conv_naive(x: Array, kernel: Array, bias: Array, stride: int, padding: int) -> Array:
    """The definition of `strided_conv`."""
    return mx.conv1d(x, kernel, stride, padding) + bias
