"""Small operations on trees of arrays (dicts and lists of them)."""

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map


def cast(tree: Any, dtype: mx.Dtype) -> Any:
    """Every floating array of the tree in `dtype`; integers as they are."""

    def one(x: mx.array) -> mx.array:
        return x.astype(dtype) if mx.issubdtype(x.dtype, mx.floating) else x

    return tree_map(one, tree)


def size_bytes(tree: Any) -> int:
    """Bytes of all arrays of the tree."""
    return sum(x.nbytes for _, x in tree_flatten(tree))
