"""Unstructured one-shot pruning: magnitude, Wanda and SparseGPT, by sparsity or n of every m."""

from collections.abc import Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..layers.linear import matrix
from ..models.model import Model
from ..ops.pruning import global_masks, magnitude_mask, n_of_m_mask, wanda_mask, wanda_scores
from ..ops.sparsegpt import sparsegpt
from .capture import linear_layers, second_moments

NofM = tuple[int, int]


def prune_magnitude(
    layers: Mapping[str, nn.Module],
    sparsity: float,
    n_of_m: NofM | None,
    *,
    together: bool = False,
) -> None:
    """Set the smallest weights to 0: of each layer, or of all layers together."""
    weights = [matrix(layer) for layer in layers.values()]
    if n_of_m is not None:
        masks = [n_of_m_mask(mx.abs(weight), *n_of_m) for weight in weights]
    elif together:
        masks = global_masks(weights, sparsity)
    else:
        masks = [magnitude_mask(weight, sparsity) for weight in weights]
    for layer, weight, mask in zip(layers.values(), weights, masks, strict=True):
        layer["weight"] = mx.where(mask, weight, 0)


def prune_wanda(
    model: Model,
    layers: Mapping[str, nn.Module],
    sparsity: float,
    n_of_m: NofM | None,
    rows: Sequence[mx.array],
) -> None:
    """Set the weights of smallest `|weight| · norm of the input` to 0, per output (Wanda); those of
    experts, whose inputs are not recorded, by their magnitude alone."""
    linear = linear_layers(model)
    moments, _ = second_moments(model, [path for path in layers if path in linear], rows)
    for path, layer in layers.items():
        weight = matrix(layer)
        norms = mx.sqrt(mx.diag(moments[path])) if path in moments else mx.ones(weight.shape[-1:])
        scores = wanda_scores(weight, norms)
        mask = wanda_mask(scores, sparsity) if n_of_m is None else n_of_m_mask(scores, *n_of_m)
        layer["weight"] = mx.where(mask, weight, 0)


def prune_sparsegpt(
    model: Model,
    layers: Mapping[str, nn.Module],
    sparsity: float,
    n_of_m: NofM | None,
    rows: Sequence[mx.array],
) -> None:
    """Prune with SparseGPT, block by block, on inputs from the blocks already pruned.

    Experts, whose inputs are not recorded, are pruned by magnitude.
    """
    linear, groups = linear_layers(model), dict[str, dict[str, nn.Module]]()
    for path, layer in layers.items():
        parts = path.split(".")
        block = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
        groups.setdefault(".".join(parts[: block + 1]), {})[path] = layer
    for group in groups.values():
        moments, tokens = second_moments(model, [path for path in group if path in linear], rows)
        prune_magnitude({p: m for p, m in group.items() if p not in moments}, sparsity, n_of_m)
        for path, layer in group.items():
            if path not in moments:
                continue
            h = np.array(moments[path], np.float64) * (2 / tokens)
            weight = np.array(matrix(layer), np.float64)
            result = sparsegpt(weight, h, sparsity, n_of_m=n_of_m)
            layer["weight"] = mx.array(result.weight.astype(np.float32))


def zeros(layers: Mapping[str, nn.Module]) -> float:
    """Return the share of weights that are 0."""
    weights = [matrix(layer) for layer in layers.values()]
    total = sum(weight.size for weight in weights)
    return sum(int(np.count_nonzero(np.array(weight) == 0)) for weight in weights) / total
