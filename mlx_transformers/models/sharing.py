"""Tensor parallelism of a model: its blocks are split across processes, the rest replicated."""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..core.errors import RecipeError
from ..layers.block import SHARED, BlockModule
from .model import Model, ModelKind


def check_parts(config: ModelKind, model: Model, n: int) -> None:
    """Check that `n` processes can split the blocks of a model.

    Args:
        config: the model's table.
        model: its module, which may be lazy.

    Raises:
        RecipeError: they can't; the message names the key and the cure.
    """
    layers = [part for _, part in model.named_modules() if isinstance(part, BlockModule)]
    if not layers:
        raise RecipeError(
            f"model.kind = '{config.kind}' has no blocks of mixer and ffn, so processes can't "
            "share its layers: leave train.tensor_parallel out."
        )
    block_positions = [layer.config.position for layer in layers]
    for kind in (*(tower.position for tower in config.towers()), *block_positions):
        if kind is not None and kind.adds_to_scores:
            raise RecipeError(
                f"position.kind = '{kind.kind}' adds to the scores of each head, and can't be "
                "shared out among processes: leave train.tensor_parallel out, or choose a position "
                "that doesn't, such as 'rope' or 'learned'."
            )
    for layer in layers:
        layer.config.part(layer.dim, n)


def shard_model(model: nn.Module, group: mx.distributed.Group) -> frozenset[str]:
    """Keep this process's part of every block; the weights need not have been evaluated.

    Returns:
        Names of the replicated parameters in split slots, beside the linear layers. Each process
        applies them to its own heads only, so their gradients are summed over the processes.
    """
    paths: set[str] = set()
    for name, block in model.named_modules():
        if isinstance(block, BlockModule):
            block.shard(group)
            paths |= {f"{name}.{path}" for path in _beside_linear(block)}
    return frozenset(paths)


def _beside_linear(block: BlockModule) -> list[str]:
    linear = (nn.AllToShardedLinear, nn.ShardedToAllLinear)
    return [
        f"{slot}.{path}"
        for slot in SHARED
        if slot in block
        for path, _ in tree_flatten(block[slot].parameters())
        if not isinstance(block[slot][path.split(".")[0]], linear)
    ]
