"""Functions whose backward pass is written out."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx


def custom_vjp(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Give `forward` the vector-Jacobian product `backward(primals, cotangents, outputs)`.

    `backward` returns one gradient per primal. What it needs besides the primals must be among
    the outputs: an array that either closes over is a constant.
    """
    run = mx.custom_function(forward)
    run.vjp(backward)
    called: Callable[..., Any] = run
    return called


def recompute(forward: Callable[..., list[mx.array]]) -> Callable[..., list[mx.array]]:
    """`forward` of two or more arrays, whose backward pass computes it again: it saves no others.

    Gradient checkpointing (Chen et al. 2016) of an operation. The gradients are those that
    autodiff finds in `forward`.
    """

    def backward(
        primals: tuple[mx.array, ...], cotangents: list[mx.array], _: list[mx.array]
    ) -> tuple[mx.array, ...]:
        # wait for the cotangents: otherwise `mx.compile` reuses the forward's arrays and saves them
        again = mx.depends(list(primals), list(cotangents))
        return tuple(mx.vjp(forward, again, list(cotangents))[1])

    run: Callable[..., list[mx.array]] = custom_vjp(forward, backward)
    return run
