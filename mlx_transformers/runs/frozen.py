"""The frozen base of an adapted run: `base/` beside its checkpoints, written once.

It has the form of a checkpoint, so that it is complete or absent and verified when read.
"""

from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_unflatten

from ..core.errors import CheckpointError
from .checkpoint import load, newest, save
from .tensors import named_leaves

BASE = "base"
"""The folder of the base in a run's folder."""


def save_base(run: Path, weights: dict[str, mx.array]) -> None:
    """Write the base of a run; without weights (a run without adapters) nothing.

    Args:
        run: the run's folder.
        weights: `layers.adapters.weights.base_weights`.

    Raises:
        CheckpointError: it can't be written.
    """
    if weights:
        save(run / BASE, 0, {"model": tree_unflatten(list(weights.items()))}, {})


def read_base(checkpoint: Path) -> dict[str, mx.array]:
    """The base of the run that a checkpoint belongs to, by path.

    Raises:
        CheckpointError: it is absent or damaged.
    """
    folder = checkpoint.parent.parent / BASE
    path = newest(folder)
    if path is None:
        raise CheckpointError(
            f"{folder} is missing: it holds the frozen weights that the adapters of {checkpoint} "
            "belong to. Bring it back, or start the run anew from its source."
        )
    return dict(named_leaves(load(path, only=["model"])[0]["model"]))
