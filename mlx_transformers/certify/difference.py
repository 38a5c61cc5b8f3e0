"""How far two computations of one thing are apart."""

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ..core.tree import Tree

FLOOR = 1e-3
"""Share of the norm of all arrays that is added to that of each, since some gradients are zero but
for rounding (the bias of keys, say)."""


def tree_difference(a: Tree, b: Tree) -> float:
    """The largest `|x - y| / (|x| + FLOOR · |all|)` over the arrays of floats in two trees, in L2
    norms; infinite where names, shapes or whole numbers, such as packed weights, differ."""
    ours, theirs = (dict(tree_flatten(tree)) for tree in (a, b))
    if {n: x.shape for n, x in ours.items()} != {n: x.shape for n, x in theirs.items()}:
        return float("inf")
    smooth = [name for name, x in ours.items() if mx.issubdtype(x.dtype, mx.floating)]
    if any(not _same(ours[name], theirs[name]) for name in {*ours} - {*smooth}):
        return float("inf")
    pairs = [(_numbers(ours[name]), _numbers(theirs[name])) for name in smooth]
    norms = [float(np.linalg.norm(x)) for x, _ in pairs]
    floor = FLOOR * float(np.linalg.norm(norms)) or 1.0
    shares = [
        float(np.linalg.norm(x - y)) / (norm + floor)
        for (x, y), norm in zip(pairs, norms, strict=True)
    ]
    return float(np.max(shares, initial=0.0))


def largest_difference(a: mx.array, b: mx.array) -> float:
    """The largest `|a - b|` as a share of the largest `|a|`."""
    x, y = _numbers(a), _numbers(b)
    return float(np.abs(x - y).max() / (np.abs(x).max() or 1.0))


def unequal(a: Tree, b: Tree) -> int:
    """The number of arrays that differ in a bit; names count too."""
    ours, theirs = (dict(tree_flatten(tree)) for tree in (a, b))
    return sum(
        name not in ours or name not in theirs or not _same(ours[name], theirs[name])
        for name in {*ours, *theirs}
    )


def _same(x: mx.array, y: mx.array) -> bool:
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    ours, theirs = (np.asarray(mx.view(array.reshape(-1), mx.uint8)) for array in (x, y))
    return bool(np.array_equal(ours, theirs))


def _numbers(x: mx.array) -> np.ndarray:
    return np.asarray(x.astype(mx.float32)).astype(np.float64).reshape(-1)
