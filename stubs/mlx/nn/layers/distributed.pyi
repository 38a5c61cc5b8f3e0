from collections.abc import Callable

import mlx.core as mx

from .. import Module

Sharding = str | Callable[[str, mx.array], int | tuple[int, int | list[int]] | None]

def sum_gradients(group: mx.distributed.Group) -> Callable[[mx.array], mx.array]: ...
def shard_inplace(
    module: Module,
    sharding: Sharding,
    *,
    segments: int | list[int] = 1,
    group: mx.distributed.Group | None = None,
) -> None: ...
def shard_linear(
    module: Module,
    sharding: str,
    *,
    segments: int | list[int] = 1,
    group: mx.distributed.Group | None = None,
) -> Module: ...
