"""How much each output of a mixer depends on each input, for mixers without attention weights."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from .reading import Reading

LONGEST = 96
"""Tokens of a text up to which it is computed: T backward passes, at once."""


class Nudged:
    """An observer that adds arrays to the inputs of mixers, and keeps their outputs.

    Layers read inputs without a gradient, so that each output depends on its own layer's input
    alone.
    """

    def __init__(self, nudges: dict[int, mx.array]) -> None:
        self.nudges = nudges
        self.outputs: dict[int, mx.array] = {}
        self._layer = -1

    def observe(self, name: str, array: mx.array) -> mx.array:
        """Replace inputs, and keep outputs."""
        if name == "layer_input":
            self._layer += 1
            return mx.stop_gradient(array)
        if name == "mixer_input" and self._layer in self.nudges:
            return mx.stop_gradient(array) + self.nudges[self._layer]
        if name == "mixer_output" and self._layer in self.nudges:
            self.outputs[self._layer] = array
        return array


def influences(reading: Reading, wanted: Sequence[bool]) -> list[np.ndarray | None]:
    """Return, for each wanted layer, `[1, T, T]`: the Jacobian's norm of the mixer's output at t by
    its input at s.

    The norm is estimated with one random direction per output, of which the row of the Jacobian is
    a vector-Jacobian product; rows sum to 1. None for other layers, in texts of more than `LONGEST`
    tokens, and where a mixer has no gradient.
    """
    chosen = [i for i, is_wanted in enumerate(wanted) if is_wanted]
    length = len(reading.tokens)
    matrices: list[np.ndarray | None] = [None] * len(wanted)
    if not chosen or length > LONGEST or reading.source:
        return matrices
    width = reading.embedded(reading.context()).shape[-1]

    def outputs(*nudges: mx.array) -> list[mx.array]:
        observer = Nudged(dict(zip(chosen, nudges, strict=True)))
        ctx = reading.context(observer)
        reading.model.features(reading.embedded(ctx, length), ctx)
        return [observer.outputs[i] for i in chosen]

    nudges = [mx.zeros((length, length, width))] * len(chosen)
    signs = mx.random.bernoulli(0.5, (length, 1, width), key=mx.random.key(0)) * 2.0 - 1.0
    directions = signs * mx.eye(length)[:, :, None]
    _, products = mx.vjp(outputs, nudges, [directions] * len(chosen))
    for i, product in zip(chosen, products, strict=True):
        rows = np.array(mx.linalg.norm(product.astype(mx.float32), axis=-1))
        matrices[i] = (rows / np.maximum(rows.sum(axis=-1, keepdims=True), 1e-9))[None]
    return matrices
