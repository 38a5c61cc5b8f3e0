"""Layers shared out among processes: tensor parallelism (Shoeybi et al. 2019, section 3).

    y = Σ_r  down[:, r] f(up[r] x)

Each of n processes has a part of the heads of attention, and of the hidden features of an ffn. What
reads the residual stream is split by its outputs, what writes into it by its inputs; the sum over
the processes is the layer's output, and every process has all of it.

A kind that can be shared out has `part(dim, n)`: itself as one of `n` processes builds it.
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
        kinds = [each for name in ("mixer", "ffn") for each in KINDS[name].items()]
        able = [f"'{name}'" for name, other in kinds if splits(other)]
        raise RecipeError(
            f"{slot}.kind = '{kind.kind}' can't be shared out among processes: leave "
            f"train.tensor_parallel out. Kinds that can: {', '.join(able)}."
        )
    return kind.part(dim, n)


def splits(cls: type[Kind]) -> bool:
    """Whether kinds of a class have a `part` of their own."""
    return issubclass(cls, SplitKind) and cls.part is not SplitKind.part


def evenly(key: str, count: int, n: int) -> int:
    """An n-th of a count.

    Raises:
        RecipeError: it is no whole number.
    """
    if count % n:
        raise RecipeError(
            f"{key} = {count} can't be shared evenly by {n} processes. Make it a multiple of {n}, "
            "or change train.tensor_parallel."
        )
    return count // n


def axis_of(whole: mx.array, part: mx.array) -> int | None:
    """The axis along which a part is shorter than the whole; None where it is all of it."""
    sizes = zip(whole.shape, part.shape, strict=True)
    return next((axis for axis, (all_, own) in enumerate(sizes) if all_ != own), None)


def fill(part: Any, whole: nn.Module, group: mx.distributed.Group) -> Any:
    """`part`, built for one process's share of the work of `whole`, with its share of the weights.

    Linear maps become MLX's sharded ones, which exchange what they must in both directions.
    `whole` is used up.
    """
    linears = {name: layer for name, layer in whole.items() if isinstance(layer, nn.Linear)}
    for name, layer in linears.items():
        writes = isinstance(layer, ResidualLinear)
        how = "sharded-to-all" if writes else "all-to-sharded"
        part[name] = shard_linear(layer, how, group=group)
        del whole[name]
    own = dict(tree_flatten(part.parameters()))
    shard_inplace(whole, lambda path, array: axis_of(array, own[path]), group=group)
    part.update(whole.parameters())
    return part


def own_key(reader: nn.Module, key: mx.array) -> mx.array:
    """The key of a dropout on what `reader` reads: each process that has a part draws its own."""
    if not isinstance(reader, nn.ShardedToAllLinear):
        return key
    return mx.random.split(key, reader.group.size())[reader.group.rank()]
