"""Growth of linear layers: wider, and as experts, with the function kept.

Weights are `[out, in]`. Net2Net: Chen, Goodfellow & Shlens 2016, algorithm 1 and section 2.3.
"""

import mlx.core as mx


def widen_out(weight: mx.array, mapping: mx.array, axis: int = 0) -> mx.array:
    """Copy outputs (or bias elements): new output j is old output `mapping[j]`."""
    return mx.take(weight, mapping, axis=axis)


def widen_in(weight: mx.array, mapping: mx.array, axis: int = -1) -> mx.array:
    """Copy inputs, each divided by the number of copies of its source, so that sums stay."""
    counts = (mapping[:, None] == mapping[None, :]).sum(axis=1).astype(weight.dtype)
    shape = [1] * weight.ndim
    shape[axis] = -1
    return mx.take(weight, mapping, axis=axis) / counts.reshape(shape)


def expert_copies(weight: mx.array, n_experts: int) -> mx.array:
    """Stack `n_experts` copies of a dense layer's array: `[...] -> [E, ...]` (Komatsuzaki et al.
    2023, section 2)."""
    return mx.broadcast_to(weight, (n_experts, *weight.shape)) + 0.0
