"""Tensor parallelism: layers split across processes (Shoeybi et al. 2019, section 3).

    y = Σ_r  down[:, r] f(up[r] x)

Each of n processes has a part of the heads of attention and of the hidden features of an ffn.
Linear layers that read the residual stream are split by outputs, those that write into it by
inputs; an all-reduce sums the partial outputs, so that every process has the whole.

A kind that can be split has `part(dim, n)`: the kind as one of `n` processes builds it.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.nn.layers.distributed import shard_inplace, shard_linear
from mlx.utils import tree_flatten

from ..core.errors import RecipeError
from ..recipe.config import Kind
from ..recipe.slot import KINDS
from .kinds import SplitKind
from .linear import ResidualLinear


def part_of(slot: str, kind: SplitKind, dim: int, n: int) -> SplitKind:
    """The kind in a slot as one of `n` processes builds it, for a stream of width `dim`.

    Raises:
        RecipeError: it can't be split, or not evenly.
    """
    if not splits(type(kind)):
        kinds = [item for name in ("mixer", "ffn") for item in KINDS[name].items()]
        able = [f"'{name}'" for name, other in kinds if splits(other)]
        raise RecipeError(
            f"{slot}.kind = '{kind.kind}' can't be shared out among processes: leave "
            f"train.tensor_parallel out. Kinds that can: {', '.join(able)}."
        )
    return kind.part(dim, n)


def splits(cls: type[Kind]) -> bool:
    """Whether kinds of a class have a `part` of their own."""
    return issubclass(cls, SplitKind) and cls.part is not SplitKind.part


def divide_evenly(key: str, count: int, n: int) -> int:
    """Divide the count of a recipe key by n.

    Raises:
        RecipeError: it leaves a remainder.
    """
    if count % n:
        raise RecipeError(
            f"{key} = {count} can't be shared evenly by {n} processes. Make it a multiple of {n}, "
            "or change train.tensor_parallel."
        )
    return count // n


def axis_of(full: mx.array, part: mx.array) -> int | None:
    """The axis along which a shard is shorter than the whole array; None: it is the whole."""
    sizes = zip(full.shape, part.shape, strict=True)
    return next((axis for axis, (all_, shard_size) in enumerate(sizes) if all_ != shard_size), None)


def shard_module(part: Any, whole: nn.Module, group: mx.distributed.Group) -> Any:
    """Fill the module `part` of one process with its shard of the weights of `whole`.

    Linear layers become MLX's sharded ones, which communicate in both directions. `whole` is
    consumed.
    """
    linears = {name: layer for name, layer in whole.items() if isinstance(layer, nn.Linear)}
    for name, layer in linears.items():
        writes = isinstance(layer, ResidualLinear)
        how = "sharded-to-all" if writes else "all-to-sharded"
        part[name] = shard_linear(layer, how, group=group)
        del whole[name]
    shapes = dict(tree_flatten(part.parameters()))
    shard_inplace(whole, lambda path, array: axis_of(array, shapes[path]), group=group)
    part.update(whole.parameters())
    return part


def dropout_key(reader: nn.Module, key: mx.array) -> mx.array:
    """The PRNG key of dropout on the input of `reader`: one per process if it is sharded."""
    if not isinstance(reader, nn.ShardedToAllLinear):
        return key
    return mx.random.split(key, reader.group.size())[reader.group.rank()]
