"""Splitting an array, with a gradient that is assembled in one operation.

In MLX 0.32 the gradient of a slice is an array as large as the whole, mostly zeros, and T slices
make T of them: a loop over 64 steps held 30 times the memory that it needs.
"""

import mlx.core as mx

from .custom_vjp import custom_vjp


def unstack(x: mx.array) -> list[mx.array]:
    """`[x[:, 0], x[:, 1], …]` of `x [B, T, ...]`: its gradient is the stack of theirs."""
    if x.shape[1] == 1:
        return [x[:, 0]]

    def backward(_: mx.array, cotangents: list[mx.array], __: list[mx.array]) -> mx.array:
        return mx.stack(cotangents, axis=1).astype(x.dtype)

    out: list[mx.array] = custom_vjp(unstack_naive, backward)(x)
    return out


def unstack_naive(x: mx.array) -> list[mx.array]:
    """The definition of `unstack`, left to autodiff."""
    return [x[:, t] for t in range(x.shape[1])]


def split_last(x: mx.array, n: int) -> list[mx.array]:
    """`x [..., n · D]` as n arrays `[..., D]`: its gradient is theirs side by side."""

    def backward(_: mx.array, cotangents: list[mx.array], __: list[mx.array]) -> mx.array:
        return mx.concatenate(cotangents, axis=-1).astype(x.dtype)

    def split(x: mx.array) -> list[mx.array]:
        return split_last_naive(x, n)

    out: list[mx.array] = custom_vjp(split, backward)(x)
    return out


def split_last_naive(x: mx.array, n: int) -> list[mx.array]:
    """The definition of `parts`, left to autodiff."""
    return list(mx.split(x, n, axis=-1))
