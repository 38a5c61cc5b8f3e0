"""Restoring saved trees into live objects, with errors that name each tensor."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..core.errors import CheckpointError
from ..core.tree import assign
from ..layers.adapters.weights import own_weights
from .stored import Stored
from .tensors import Tree, filled, named_leaves

SHOWN = 12
"""Tensors named in an error, per kind of difference."""


def check(live: Tree, saved: Tree, what: str) -> None:
    """Check that two trees agree in names, shapes and dtypes.

    Raises:
        CheckpointError: they differ; names the tensors that are missing, unexpected, or of another
            shape or dtype.
    """
    ours, theirs = dict(named_leaves(live)), dict(named_leaves(saved))
    faults = [
        _fault("missing from the checkpoint", [n for n in ours if n not in theirs]),
        _fault("not in this run", [n for n in theirs if n not in ours]),
        _fault(
            "different",
            [
                f"{name} (checkpoint {_describe(theirs[name])}, here {_describe(ours[name])})"
                for name in ours
                if name in theirs and _describe(ours[name]) != _describe(theirs[name])
            ],
        ),
    ]
    problems = [fault for fault in faults if fault]
    if problems:
        raise CheckpointError(
            f"The checkpoint's {what} doesn't fit: {'; '.join(problems)}. "
            f"It belongs to another recipe: use the recipe it was trained with."
        )


def restore_model(model: nn.Module, saved: Tree) -> None:
    """Load the parameters of a checkpoint into a model; of an adapted one its base stays.

    Raises:
        CheckpointError: as `check`; the model is unchanged.
    """
    live = dict(named_leaves(own_weights(model)))
    wide = [
        (name, array.astype(live[name].dtype) if _is_narrow(name, array, live) else array)
        for name, array in named_leaves(saved)
    ]
    saved = tree_unflatten(wide)
    check(own_weights(model), saved, "model")
    model.update(saved)


def restore_state(live: dict[str, Any], saved: Tree, what: str) -> None:
    """Load a saved tree into the containers of a live one: an optimizer's state, an EMA.

    The containers stay the same objects, so compiled functions that captured them stay valid.
    Arrays of the live tree that are `Stored` are overwritten in their file, one by one.

    Raises:
        CheckpointError: as `check`; the live tree is unchanged.
    """
    check(live, saved, what)
    theirs = dict(named_leaves(saved))
    restored = {name: _kept(leaf, theirs.pop(name)) for name, leaf in named_leaves(live)}
    # The live tree's containers: older checkpoints hold empty ones of modules that are gone.
    assign(live, filled(live, restored))


def _kept(live: mx.array | Stored, saved: mx.array | Stored) -> mx.array | Stored:
    """Return what a live tree holds for a saved array: the array, or its place in a file."""
    array = saved.read() if isinstance(saved, Stored) else saved
    if not isinstance(live, Stored):
        return array
    live.write(array)
    return live


def _is_narrow(name: str, array: mx.array, live: dict[str, mx.array]) -> bool:
    """Whether an array is a packed weight's scales, which disks hold in 16 bits."""
    current = live.get(name)
    return (
        name.endswith((".scales", ".biases"))
        and current is not None
        and current.dtype == mx.float32
        and array.dtype in (mx.float16, mx.bfloat16)
    )


def _describe(array: mx.array) -> str:
    return f"{list(array.shape)} {str(array.dtype).removeprefix('mlx.core.')}"


def _fault(sentence: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{sentence}: {', '.join(names[:SHOWN])}{more}"
