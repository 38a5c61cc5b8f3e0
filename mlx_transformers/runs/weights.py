"""The weights of a run that count: their exponential moving average, where the run keeps one.

The average covers the trained weights. Frozen ones, and the state of routers, are the model's.
"""

from pathlib import Path

import mlx.core as mx

from ..core.tree import Tree
from .checkpoint import load
from .tensors import filled, named_leaves


def run_weights(checkpoint: Path, ema: bool) -> Tree:
    """Read the weights that a run is used and judged by, in the structure of the model.

    Args:
        checkpoint: a checkpoint's folder.
        ema: whether the run is judged by an average of its weights (`Recipe.averaged`).

    Raises:
        CheckpointError: the checkpoint is damaged, or has no average.
    """
    trees, _ = load(checkpoint, only=["model", "ema"] if ema else ["model"])
    return averaged(trees["model"], trees["ema"]["average"]) if ema else trees["model"]


def averaged(model: Tree, average: Tree) -> Tree:
    """Return the parameters of a model, the averaged ones in place of those of the same name."""
    parameters: dict[str, mx.array] = dict(named_leaves(model))
    return filled(model, parameters | dict(named_leaves(average)))
