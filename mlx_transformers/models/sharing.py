"""A model whose blocks are shared out among processes; the rest of it is whole on each."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..core.errors import RecipeError
from ..layers.block import SHARED, BlockModule
from .model import Model, ModelKind


def check_parts(config: ModelKind, model: Model, n: int) -> None:
    """Whether `n` processes can share the blocks of a model.

    Args:
        config: the model's table.
        model: its module, which may be lazy.

    Raises:
        RecipeError: they can't; names the key, and what to do.
    """
    layers = [part for _, part in model.named_modules() if isinstance(part, BlockModule)]
    if not layers:
        raise RecipeError(
            f"model.kind = '{config.kind}' has no blocks of mixer and ffn, so processes can't "
            "share its layers: leave train.tensor_parallel out."
        )
    own: list[Any] = [layer.config.position for layer in layers]
    kinds: list[Any] = [*(tower.position for tower in config.towers()), *own]
    for kind in kinds:
        if getattr(kind, "adds_to_scores", False):
            raise RecipeError(
                f"position.kind = '{kind.kind}' adds to the scores of each head, and can't be "
                "shared out among processes: leave train.tensor_parallel out, or choose a position "
                "that doesn't, such as 'rope' or 'learned'."
            )
    for layer in layers:
        layer.config.part(layer.dim, n)


def shard_model(model: nn.Module, group: mx.distributed.Group) -> frozenset[str]:
    """Keep this process's part of every block; its weights need not have been evaluated.

    Returns:
        Names of the parameters beside the linear maps of shared slots. Each process applies them
        to its own heads alone, so the gradient of one that all have is a sum over the processes.
    """
    found: set[str] = set()
    for name, block in model.named_modules():
        if isinstance(block, BlockModule):
            block.shard(group)
            found |= {f"{name}.{path}" for path in _beside_linear(block)}
    return frozenset(found)


def _beside_linear(block: BlockModule) -> list[str]:
    linear = (nn.AllToShardedLinear, nn.ShardedToAllLinear)
    return [
        f"{slot}.{path}"
        for slot in SHARED
        if slot in block
        for path, _ in tree_flatten(block[slot].parameters())
        if not isinstance(block[slot][path.split(".")[0]], linear)
    ]
