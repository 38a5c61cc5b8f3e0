"""Norm weights of mlx-lm's files that hold `1 + w` where the published ones hold `w`.

mlx-lm computes some norms with a unit offset, `x / rms(x) * (1 + w)`, as plain ones: it adds the 1
when it first reads published files, and writes the sum.
"""

import re
from collections.abc import Mapping, Sequence

import mlx.core as mx


def without_offset(tensors: Mapping[str, mx.array], patterns: Sequence[str]) -> dict[str, mx.array]:
    """Return tensors with the 1 taken off again, if mlx-lm wrote them.

    It is known by its kernels of depthwise convolutions, `[D, W, 1]` there and `[D, 1, W]` in
    published files.

    Args:
        tensors: those of the file, by published name.
        patterns: regular expressions of the norms' weights.
    """
    kernels = [x.shape for name, x in tensors.items() if name.endswith("conv1d.weight")]
    if not any(len(shape) == 3 and shape[2] == 1 < shape[1] for shape in kernels):
        return dict(tensors)
    offset = re.compile("|".join(patterns))
    # in float32: bfloat16 would round the difference of numbers near 1
    return {n: x.astype(mx.float32) - 1 if offset.search(n) else x for n, x in tensors.items()}
