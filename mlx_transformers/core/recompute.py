"""Gradient checkpointing: save the inputs of a function and recompute its activations."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn


def recompute(modules: Sequence[nn.Module], f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f` with its activations recomputed in the backward pass; Chen et al. 2016.

    Every module whose parameters `f` reads must be listed: what a checkpointed function only
    closes over gets no gradient. PRNG keys must be arguments, and stopped, for the recompute to
    draw the same numbers.
    """

    def inner(params: list[Any], *args: object) -> Any:
        parameters = [m.trainable_parameters() for m in modules]
        for module, values in zip(modules, params, strict=True):
            module.update(values)
        out = f(*args)
        for module, values in zip(modules, parameters, strict=True):
            module.update(values)
        return out

    checkpointed = mx.checkpoint(inner)
    return lambda *args: checkpointed([m.trainable_parameters() for m in modules], *args)
