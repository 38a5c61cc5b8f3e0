"""The product of a recurrent state with its weights, called once per step of a loop over time.

Autodiff would sum T gradients as large as the weights, each from a thin product of one step. Here
the gradient of the weights is one product over all steps, after their gradients are known.
"""

from collections.abc import Callable
from functools import partial

import mlx.core as mx

from .custom_vjp import custom_vjp
from .unstack import unstack


class RecurrentMatmul:
    """`h_t Wᵀ` for t = 1 … T, one call per step: h `[B, N]`, W `[R, N]`, result `[B, R]`.

    Equals `recurrent_matmul_naive`, forward and first derivative. Each result gets a zero added
    whose gradient is collected, so that `dW = Σ_t (∂/∂result_t)ᵀ h_t` is one product after the
    loop; Appleyard et al. 2016, section 3.1, for GPUs.
    """

    def __init__(self, weight: mx.array, batch: int, length: int) -> None:
        self._weight = mx.stop_gradient(weight).T
        self._states: list[mx.array] = []

        def zeros(weight: mx.array) -> mx.array:
            return mx.zeros((batch, length, weight.shape[0]), weight.dtype)

        def backward(
            primals: tuple[mx.array], cotangent: mx.array, _: mx.array
        ) -> tuple[mx.array, ...]:
            states = mx.stack(self._states, axis=1)
            flat = cotangent.reshape(-1, cotangent.shape[-1])
            return ((flat.T @ states.reshape(-1, states.shape[-1])).astype(weight.dtype),)

        self._zeros = unstack(custom_vjp(zeros, backward)(weight))

    def __call__(self, h: mx.array) -> mx.array:
        t = len(self._states)
        self._states.append(mx.stop_gradient(h))
        return h @ self._weight + self._zeros[t]


def recurrent_matmul_naive(h: mx.array, weight: mx.array) -> mx.array:
    """The plain reference of one call, differentiated by autodiff."""
    return h @ weight.T


def recurrent_matmul(weight: mx.array, batch: int, length: int) -> Callable[[mx.array], mx.array]:
    """A function `h -> h Wᵀ` for a loop of `length` steps that each call it once."""
    if length == 1:
        return partial(recurrent_matmul_naive, weight=weight)
    return RecurrentMatmul(weight, batch, length)
