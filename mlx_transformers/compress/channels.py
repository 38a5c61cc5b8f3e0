"""Pruning of the residual stream: remove the channels of smallest activations from every layer."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import mlx.core as mx
import numpy as np

from ..core.errors import RecipeError
from ..layers.block import BlockModule
from ..layers.linear import matrix
from ..models.model import Model
from ..recipe.merge import Table
from .capture import linear_layers, read, recording
from .structured import Weights

READERS = ("mixer.q", "ffn.up")
"""Layers of a block that read the normalised residual stream."""
WAVES = ("sinusoidal", "transformer_xl")
"""Position kinds whose vectors are as wide as the stream. They don't allow channel pruning: the
vectors of a narrower model have other frequencies."""


def channel_scores(model: Model, dim: int, rows: Sequence[mx.array]) -> np.ndarray:
    """Return the importance of each channel of the residual stream of width `dim`, `[D]`.

    It is the mean square of the normalised activations, summed over all layers; Muralidharan et al.
    2024, section 2.2, equation 2, aggregated by mean squares.

    Raises:
        RecipeError: the model has no attention or ffn that reads a residual stream.
    """
    blocks = [path for path, m in model.named_modules() if isinstance(m, BlockModule)]
    linear = linear_layers(model)
    readers = [f"{path}.{name}" for path in blocks for name in READERS]
    # queries of latent attention may read a low-rank vector
    paths = [p for p in readers if p in linear and matrix(linear[p]).shape[1] == dim]
    if not paths:
        raise RecipeError("The model has no attention or ffn that reads a residual stream.")
    total = mx.zeros(())

    def see(path: str, x: mx.array) -> None:
        nonlocal total
        total = total + x.reshape(-1, x.shape[-1]).astype(mx.float32).square().mean(axis=0)
        mx.eval(total)

    with recording(model, paths, see):
        read(model, rows)
    return np.array(total)


def narrower_table(table: Table, keep: int) -> Table:
    """Return a model table with `keep` channels in the residual stream, and its other sizes.

    Raises:
        RecipeError: `keep` removes no channel or all of them, or other sizes of the model are
            derived from the width of its stream.
    """
    if "block" not in table:
        raise RecipeError(f"--dim goes with one stack of layers, not with '{table['kind']}'.")
    table, dim = deepcopy(table), table["dim"]
    if not 0 < keep < dim:
        raise RecipeError(f"--dim {keep}: the model is {dim} wide; keep fewer, and at least 1.")
    embed = table["embed"]
    own_width = embed["width"] is not None
    if embed["scale"] == "sqrt_dim" and not own_width:
        embed["scale"] = math.sqrt(dim)
    blocks = (table["block"], *table["blocks"].values())
    positions = [part for part in (table["position"], *(b["position"] for b in blocks)) if part]
    for position in positions:
        factorised = own_width and embed["project"] != "words"
        if position["kind"] in WAVES and not (position["kind"] == "sinusoidal" and factorised):
            raise RecipeError(
                f"--dim doesn't go with position.kind = '{position['kind']}': its vectors follow "
                "from the width of the stream. Prune --hidden, --heads or --layers instead."
            )
    mixers = [block["mixer"] for block in blocks]
    for mixer in mixers:
        # every width of latent attention is a number of its table
        if mixer["kind"] != "latent" and not {"n_heads", "head_dim"} <= mixer.keys():
            raise RecipeError(
                f"--dim doesn't go with mixer.kind = '{mixer['kind']}', whose other widths follow "
                "from that of the stream. Prune --hidden or --layers instead."
            )
    for part in (*mixers, *positions):
        if {"n_heads", "head_dim"} <= part.keys():
            part["head_dim"] = part["head_dim"] or dim // part["n_heads"]
    return table | {"dim": keep}


def narrower_stream(
    weights: Weights, shapes: Mapping[str, tuple[int, ...]], scores: np.ndarray, keep: int
) -> Weights:
    """Return weights with the `keep` best channels of the residual stream.

    Args:
        weights: those of the source.
        shapes: the shapes of the narrower model.
        scores: importance of each channel, from `channel_scores`, `[D]`.
        keep: number of channels.

    Raises:
        RecipeError: a layer has other sizes that are derived from the width of the stream.
    """
    dim, rows = len(scores), mx.array(np.sort(np.argsort(-scores, kind="stable")[:keep]))
    out: dict[str, Any] = {}
    for name, array in weights.items():
        for axis, (old, new) in enumerate(zip(array.shape, shapes[name], strict=True)):
            if (old, new) == (dim, keep):
                array = mx.take(array, rows, axis=axis)
            elif old != new:
                raise RecipeError(
                    f"--dim {keep}: {name} would have the shape {list(shapes[name])}, which isn't "
                    "a choice of channels: prune --hidden, --heads or --layers instead."
                )
        out[name] = array
    return out
