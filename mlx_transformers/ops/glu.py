"""Gated linear units: one half of a projection opens or closes the other."""

import mlx.core as mx

from mlx_transformers.core.errors import unknown

from .activations import ACTIVATIONS


def glu(gate: mx.array, up: mx.array, activation: str) -> mx.array:
    """`act(gate) * up` (GLU Variants, Shazeer 2020, equations 5 and 6)."""
    if activation not in ACTIVATIONS:
        raise ValueError(unknown("activation", activation, ACTIVATIONS))
    return ACTIVATIONS[activation](gate) * up
