"""Gradient checkpointing (activation checkpointing): save inputs, recompute the activations."""

from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map


def recompute(modules: Sequence[nn.Module], f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f` with its activations recomputed in the backward pass; Chen et al. 2016.

    Every module whose parameters `f` reads must be listed: what a checkpointed function only
    closes over gets no gradient. PRNG keys must be arguments, and stopped, for the recompute to
    draw the same numbers. What the gradients don't need, such as the product of a last linear
    layer, is not computed again.
    """

    def call(*args: object) -> Any:
        trainable = [m.trainable_parameters() for m in modules]
        return _checkpoint(in_this_pass(modules, f))(trainable, *args)

    return call


def in_this_pass(modules: Sequence[nn.Module], f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `(trainable, *args) -> f(*args)`, with the weights and context variables of this pass.

    `trainable` are the trainable parameters that the modules have in the call. A backward pass that
    computes `f` again runs when its pass has taken back its casts, rounded weights and PRNG keys of
    adapters (layers/adapters/switch.py).
    """
    held, context = [m.parameters() for m in modules], copy_context()

    def call(trainable: Sequence[Any], *args: object) -> Any:
        before = [m.parameters() for m in modules]
        _update(modules, held)
        _update(modules, trainable)
        out = context.run(f, *args)
        _update(modules, before)
        return out

    return call


def _update(modules: Sequence[nn.Module], parameters: Sequence[Any]) -> None:
    for module, values in zip(modules, parameters, strict=True):
        module.update(values)


def _checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of trees of arrays whose backward pass computes `f` again.

    It waits for the gradients of the outputs. `mx.checkpoint` waits for the outputs themselves,
    so that they stay in memory until then.
    """

    def backward(primals: Any, cotangents: Any, _: Any) -> Any:
        def again(*arrays: mx.array) -> list[mx.array]:
            return _leaves(f(*_filled(primals, arrays)))

        gradients = _leaves(cotangents)
        waiting = mx.depends(_leaves(primals), gradients)
        return _filled(primals, mx.vjp(again, waiting, gradients)[1])

    run = mx.custom_function(f)
    run.vjp(backward)
    checkpointed: Callable[..., Any] = run
    return checkpointed


def _leaves(tree: Any) -> list[mx.array]:
    return [leaf for _, leaf in tree_flatten(tree)]


def _filled(tree: Any, leaves: Sequence[mx.array]) -> Any:
    """A tree with other leaves in the same order."""
    ordered = iter(leaves)
    return tree_map(lambda _: next(ordered), tree)
