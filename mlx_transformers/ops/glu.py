"""Gated linear units: one projection gates another."""

import mlx.core as mx

from ..core.errors import unknown
from ..core.shapes import x
from .activations import AGAIN, PLAIN
from .custom_vjp import custom_vjp
from .device import on_cpu


def glu(gate: x, up: x, activation: str) -> x:
    """`act(gate) * up` (GLU Variants, Shazeer 2020, equations 5 and 6), same shape.

    Raises:
        ValueError: an unknown activation.
    """
    if activation not in PLAIN:
        raise ValueError(unknown("activation", activation, PLAIN))
    if on_cpu() and activation in AGAIN:
        return glu_recomputing(gate, up, activation)
    return glu_naive(gate, up, activation)


def glu_naive(gate: x, up: x, activation: str) -> x:
    """The definition of `glu`, left to autodiff."""
    return PLAIN[activation](gate) * up


def glu_recomputing(gate: x, up: x, activation: str) -> x:
    """`glu` for an activation of `AGAIN`; it saves only gate and up for the backward pass."""

    def forward(gate: mx.array, up: mx.array) -> mx.array:
        return glu_naive(gate, up, activation)

    def backward(
        primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array
    ) -> tuple[mx.array, mx.array]:
        gate, up = primals
        value, slope = AGAIN[activation](gate)
        return cotangent * up * slope, cotangent * value

    out: mx.array = custom_vjp(forward, backward)(gate, up)
    return out
