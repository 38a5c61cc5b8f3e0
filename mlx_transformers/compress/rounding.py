"""Quantizes the weights of a model: rounded to nearest, as MLX does, or with GPTQ."""

from collections.abc import Iterator, Mapping, Sequence

import mlx.core as mx
import numpy as np

from ..core.errors import RecipeError
from ..core.messages import LogFn
from ..layers.ffns.expert import ExpertLinear
from ..layers.linear import matrix
from ..layers.packed import DTYPES, pack_layers, packable, set_parts
from ..models.model import Model
from ..ops.gptq import MlxGrids, MlxLevels, gptq
from ..ops.packed import Packing, pack, packed_codes
from .capture import linear_layers, second_moments

HESSIANS = 1 << 30
"""Memory for second moments, in bytes; layers beyond it need another pass over the text."""


def round_plain(model: Model, choices: Mapping[str, Packing], dtype: str) -> None:
    """Pack layers as `mx.quantize` rounds them, scales and offsets in `dtype`."""
    able = packable(model)
    parts = {path: pack(matrix(able[path]), how) for path, how in choices.items()}
    pack_layers(model, choices)
    for path, arrays in parts.items():
        set_parts(model, path, [arrays[0], *(_narrow(part, dtype) for part in arrays[1:])])
    mx.eval(model.parameters())


def round_gptq(
    model: Model,
    choices: Mapping[str, Packing],
    rows: Sequence[mx.array],
    dtype: str,
    say: LogFn,
) -> None:
    """Pack linear layers with GPTQ, and the others as `mx.quantize` rounds them.

    Layers are rounded in groups in running order; the inputs of a group come from the layers before
    it, which are already rounded.

    Args:
        model: the model, which is changed.
        choices: the packing of each layer by path.
        rows: batches of calibration text, `[B, T]`.
        dtype: of the scales and offsets.
        say: reports progress.

    Raises:
        RecipeError: a packing is not of mode `affine`.
    """
    if unsupported := next((how for how in choices.values() if how.mode != "affine"), None):
        raise RecipeError(
            f"GPTQ rounds to evenly spaced values, and '{unsupported.mode}' has others: take "
            "--mode affine, or --method plain."
        )
    linear = [path for path in linear_layers(model) if path in choices]
    able = packable(model)
    if any(isinstance(able[path], ExpertLinear) for path in choices):
        say("Experts are rounded to nearest: GPTQ doesn't record their inputs.")
    for group in _groups(model, linear):
        moments, tokens = second_moments(model, group, rows)
        for path in [path for path in group if path in moments]:
            _round_layer(model, path, choices[path], moments.pop(path), tokens, dtype)
        say(f"GPTQ: {path} and the {len(group) - 1} layers before it")
    remaining = {
        p: how for p, how in choices.items() if p in linear_layers(model) or p not in linear
    }
    round_plain(model, remaining, dtype)


def _round_layer(
    model: Model, path: str, how: Packing, moment: mx.array, tokens: int, dtype: str
) -> None:
    weight = np.array(matrix(packable(model)[path]), np.float64)
    h = np.array(moment, np.float64) * (2 / tokens)
    result = gptq(weight, h, MlxGrids(how, DTYPES[dtype]), group=how.group_size)
    levels = [level for level in result.levels if isinstance(level, MlxLevels)]
    scales = np.stack([level.scale for level in levels], axis=1).astype(np.float32)
    biases = np.stack([level.bias for level in levels], axis=1).astype(np.float32)
    pack_layers(model, {path: how})
    packed = packed_codes(result.codes, how.bits)
    set_parts(model, path, [packed, mx.array(scales), mx.array(biases)])


def _groups(model: Model, paths: Sequence[str]) -> Iterator[list[str]]:
    """Yield groups of layers whose second moments fit into memory together, in running order."""
    able, group, total = packable(model), list[str](), 0
    for path in sorted(paths, key=_place):
        size = 4 * matrix(able[path]).shape[-1] ** 2
        if group and total + size > HESSIANS:
            yield group
            group, total = [], 0
        group.append(path)
        total += size
    if group:
        yield group


def _place(path: str) -> tuple[int, str]:
    """Sort key: the number of a layer's block, then its path."""
    numbers = [int(part) for part in path.split(".") if part.isdigit()]
    return (numbers[0] if numbers else -1, path)


def _narrow(part: mx.array, dtype: str) -> mx.array:
    return part.astype(DTYPES[dtype]) if mx.issubdtype(part.dtype, mx.floating) else part
