"""Reversible residuals: a stack whose backward pass computes its inputs from its outputs.

    y1 = x1 + f(x2)      y2 = x2 + g(y1)          x2 = y2 - g(y1)      x1 = y1 - f(x2)

Gomez et al. 2017 (RevNet); Kitaev et al. 2020 (Reformer), section 3, equations 7 to 9. The forward
pass saves the two outputs of the last layer and no activations, whatever the depth.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from .custom_vjp import custom_vjp

Sublayer = Callable[[Any, mx.array], tuple[mx.array, list[mx.array]]]
"""`(parameters, x) -> (y, side_outputs)`: f or g. It must give the same numbers when called again,
and as many side outputs (auxiliary losses, for one), and must get every array whose gradient is
wanted among its parameters."""


def reversible(
    sublayers: Sequence[Sublayer], parameters: Sequence[Any], x1: mx.array, x2: mx.array
) -> tuple[mx.array, mx.array, list[list[mx.array]]]:
    """Run sublayers f, g, f, g, ... one after the other, without saving activations.

    Equal to `reversible_naive`, forward and backward, but for the rounding of inputs that are
    computed from outputs.

    Args:
        sublayers: twice as many as layers.
        parameters: a tree of arrays for each.
        x1, x2: the streams; their dtype is that in which inputs are computed back.

    Returns:
        The streams after the last sublayer, and the side outputs of each.
    """
    chain = _Chain(sublayers, parameters)
    a, b, *side_outputs = custom_vjp(chain.forward, chain.backward)(x1, x2, *chain.leaves)
    return a, b, chain.side_outputs(side_outputs)


class _Chain:
    """Sublayers over one flat list of the leaves of their parameters."""

    def __init__(self, sublayers: Sequence[Sublayer], parameters: Sequence[Any]) -> None:
        self.sublayers = sublayers
        self.trees = [tree_flatten(tree) for tree in parameters]
        self.leaves = [leaf for tree in self.trees for _, leaf in tree]
        self.counts: list[int] = []
        """Side outputs of each sublayer, known after the forward pass."""

    def call(self, i: int, x: mx.array, *own: mx.array) -> list[mx.array]:
        """The output of a sublayer, in the dtype of `x`, and its side outputs."""
        tree = [(name, array) for (name, _), array in zip(self.trees[i], own, strict=True)]
        y, side_outputs = self.sublayers[i](tree_unflatten(tree) if tree else {}, x)
        return [y.astype(x.dtype), *side_outputs]

    def forward(self, *arrays: mx.array) -> list[mx.array]:
        a, b, *leaves = arrays
        outputs: list[mx.array] = []
        self.counts = []
        for i, parameters in enumerate(_parts(leaves, [len(tree) for tree in self.trees])):
            y, *side_outputs = self.call(i, b, *parameters)
            self.counts.append(len(side_outputs))
            outputs += side_outputs
            a, b = b, a + y
        return [a, b, *outputs]

    def backward(
        self,
        primals: tuple[mx.array, ...],
        cotangents: list[mx.array],
        outputs: list[mx.array],
    ) -> tuple[mx.array, ...]:
        (a, b), (da, db) = outputs[:2], cotangents[:2]
        leaves = _parts(primals[2:], [len(tree) for tree in self.trees])
        side_outputs = _parts(cotangents[2:], self.counts)
        grads: list[list[mx.array]] = []
        for i in reversed(range(len(self.sublayers))):
            inputs = [a, *leaves[i]]
            (y, *_), (dx, *d_own) = mx.vjp(partial(self.call, i), inputs, [db, *side_outputs[i]])
            a, b, da, db = b - y, a, db, da + dx
            grads.insert(0, d_own)
            # The gradients of this sublayer come before those of the next one: otherwise the
            # activations of all would be alive until the first weight's gradient is asked for.
            a, b, da, db = mx.depends([a, b, da, db], d_own or [dx])
        return (da, db, *(grad for own in grads for grad in own))

    def side_outputs(self, found: list[mx.array]) -> list[list[mx.array]]:
        """The side outputs by sublayer."""
        return _parts(found, self.counts)


def _parts(flat: Sequence[mx.array], sizes: Sequence[int]) -> list[list[mx.array]]:
    """Consecutive parts of a list."""
    ends = list(accumulate(sizes))
    return [list(flat[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def reversible_naive(
    sublayers: Sequence[Sublayer], parameters: Sequence[Any], x1: mx.array, x2: mx.array
) -> tuple[mx.array, mx.array, list[list[mx.array]]]:
    """The definition, left to autodiff."""
    side_outputs = []
    for f, tree in zip(sublayers, parameters, strict=True):
        y, side_output = f(tree, x2)
        side_outputs.append(side_output)
        x1, x2 = x2, x1 + y.astype(x1.dtype)
    return x1, x2, side_outputs
