"""The product of a recurrence's state with its weights, step after step of a loop over time.

Left to autodiff, the gradient of the weights is a sum of T matrices as large as they are, each made
by a thin product of one step. It is one product over all steps, once their gradients are known.
"""

from collections.abc import Callable
from functools import partial

import mlx.core as mx

from .derivative import with_backward
from .unstack import unstack


class Recall:
    """`h_t Wᵀ` for t = 1 … T, one call per step: h `[B, N]`, W `[R, N]`, result `[B, R]`.

    Equal to `recall_naive`, forward and backward (once: its gradient has none of its own). Every
    result gets a zero added, whose gradient is what W's is made of when the loop has been left:
    `dW = Σ_t (∂/∂result_t)ᵀ h_t`. Appleyard et al. 2016, section 3.1, for the same on GPUs.
    """

    def __init__(self, weight: mx.array, batch: int, length: int) -> None:
        self._weight = mx.stop_gradient(weight).T
        self._seen: list[mx.array] = []

        def zeros(weight: mx.array) -> mx.array:
            return mx.zeros((batch, length, weight.shape[0]), weight.dtype)

        def backward(
            primals: tuple[mx.array], cotangent: mx.array, _: mx.array
        ) -> tuple[mx.array, ...]:
            seen = mx.stack(self._seen, axis=1)
            flat = cotangent.reshape(-1, cotangent.shape[-1])
            return ((flat.T @ seen.reshape(-1, seen.shape[-1])).astype(weight.dtype),)

        self._zeros = unstack(with_backward(zeros, backward)(weight))

    def __call__(self, h: mx.array) -> mx.array:
        t = len(self._seen)
        self._seen.append(mx.stop_gradient(h))
        return h @ self._weight + self._zeros[t]


def recall_naive(h: mx.array, weight: mx.array) -> mx.array:
    """The definition of one call, left to autodiff."""
    return h @ weight.T


def repeated(weight: mx.array, batch: int, length: int) -> Callable[[mx.array], mx.array]:
    """`h Wᵀ` for a loop of `length` steps, each of which calls it once."""
    if length == 1:
        return partial(recall_naive, weight=weight)
    return Recall(weight, batch, length)
