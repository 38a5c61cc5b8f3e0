"""The order of a backward pass: the gradients of a block's weights before that of its input."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map


def weights_first(modules: Sequence[nn.Module], f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f`, whose first argument gets its gradient after the parameters of `modules` do.

    The gradient of a weight is an output of the backward pass, and MLX computes outputs last: the
    activations that it needs would stay in memory until then, those of all blocks at once where
    MLX walks graphs wide (`core.cpu_streams`). Derivatives are those of reverse mode: `mx.jvp` and
    `mx.vmap` of the gradient are not implemented.
    """

    def inner(x: mx.array, *args: Any) -> Any:
        before = [m.trainable_parameters() for m in modules]
        x, *params = _in_order(x, *(param for _, param in tree_flatten(before)))
        ordered = iter(params)
        for module, values in zip(modules, before, strict=True):
            module.update(tree_map(lambda _: next(ordered), values))
        out = f(x, *args)
        for module, values in zip(modules, before, strict=True):
            module.update(values)
        return out

    return inner


def _forward(*arrays: mx.array) -> list[mx.array]:
    return list(arrays)


def _backward(
    primals: tuple[mx.array, ...], cotangents: list[mx.array], outputs: list[mx.array]
) -> tuple[mx.array, ...]:
    first, *others = cotangents
    return (*mx.depends([first], others), *others) if others else (first,)


_function = mx.custom_function(_forward)
_function.vjp(_backward)
_in_order = cast("Callable[..., list[mx.array]]", _function)
