"""Trees are nested dicts and lists; in this package their leaves are arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

def tree_flatten(
    tree: Any, prefix: str = "", is_leaf: Callable[[Any], bool] | None = None
) -> list[tuple[str, mx.array]]: ...
def tree_unflatten(tree: Sequence[tuple[str, Any]] | dict[str, Any]) -> Any: ...
def tree_map(
    fn: Callable[..., Any], tree: Any, *rest: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any: ...
def tree_map_with_path(
    fn: Callable[..., Any], tree: Any, *rest: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any: ...
def tree_reduce(fn: Callable[..., Any], tree: Any, initializer: Any = None) -> Any: ...
