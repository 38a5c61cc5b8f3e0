"""Dynamic sparse training: connections that are dropped and grown while a model learns.

RigL (Evci et al. 2020) drops the weakest weights and grows where the dense gradient is largest;
SET (Mocanu et al. 2018) grows at random. Masks are 1 where a connection is active. All forms have
fixed shapes, and work inside `mx.compile`.
"""

import math
from collections.abc import Mapping

import mlx.core as mx


def update_fraction(step: mx.array, end: float, alpha: float) -> mx.array:
    """Return the share of connections to replace, `alpha / 2 (1 + cos(pi t / end))`; 0 after."""
    t = mx.minimum(step.astype(mx.float32), float(end))
    return mx.maximum(0.5 * alpha * (1 + mx.cos(math.pi * t / end)), 0.0)


def ranks(scores: mx.array) -> mx.array:
    """Return the place of each element, from 0 for the largest, in a flat array; ties by place."""
    order = mx.argsort(-scores)
    return mx.put_along_axis(mx.zeros(order.shape, mx.int32), order,
                             mx.arange(order.size, dtype=mx.int32), axis=0)  # fmt: skip


def drop_and_grow(
    weight: mx.array, mask: mx.array, scores: mx.array, fraction: mx.array
) -> tuple[mx.array, mx.array]:
    """Replace `floor(fraction · active)` connections (Evci et al. 2020, section 3).

    The active weights of least magnitude are dropped; as many of the positions that are not active
    then, the dropped ones included, are grown where `scores` is largest.

    Args:
        weight: the weights; those of inactive connections are 0 or ignored.
        mask: active connections, 0 or 1, in the shape of `weight`.
        scores: of growing a connection: the magnitude of its dense gradient, or random numbers.
        fraction: scalar.

    Returns:
        The new weights (0 where grown, unless just dropped) and the new mask in its dtype.
    """
    active = mask.reshape(-1) > 0
    count = active.sum()
    replaced = mx.floor(fraction * count.astype(mx.float32) + 1e-6).astype(mx.int32)
    strength = mx.where(active, mx.abs(weight).reshape(-1).astype(mx.float32), -1.0)
    keeps = ranks(strength) < (count - replaced)
    free = mx.where(keeps, -mx.inf, mx.abs(scores).reshape(-1).astype(mx.float32))
    grown = ranks(free) < replaced
    new = keeps | grown
    values = mx.where(active, weight.reshape(-1), 0)
    values = mx.where(new, values, 0)
    return values.reshape(weight.shape), new.astype(mask.dtype).reshape(mask.shape)


def densities(
    shapes: Mapping[str, tuple[int, ...]], sparsity: float, erk: bool
) -> dict[str, float]:
    """Return the density of each matrix at a total sparsity: uniform, or Erdős-Rényi (ERK).

    Matrices `[E, out, in]` of experts have the density of one of them.

    ERK scales densities with `(sum of sizes) / (product of sizes)`; matrices that would exceed 1
    are dense, and the others share the rest (Evci et al. 2020, section 3).

    Raises:
        ValueError: the sparsity is not between 0 and 1.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"A sparsity is at least 0 and below 1, not {sparsity}.")
    if not erk:
        return dict.fromkeys(shapes, 1 - sparsity)
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape[-2:]) / math.prod(shape[-2:]) for name, shape in shapes.items()}
    dense: set[str] = set()
    while True:
        budget = (1 - sparsity) * sum(size.values()) - sum(size[name] for name in dense)
        share = sum(raw[name] * size[name] for name in shapes if name not in dense)
        scale = max(budget, 0.0) / share if share else 0.0
        full = {n for n in shapes if n not in dense and scale * raw[n] > 1}
        if not full:
            return {n: 1.0 if n in dense else scale * raw[n] for n in shapes}
        dense |= full
