"""Structured pruning: removes heads, hidden features of ffns, or layers, in model and recipe."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..core.context import Context
from ..core.errors import RecipeError
from ..layers.block import BlockModule
from ..models.model import Model, layers_of
from ..recipe.merge import Table
from .capture import recording

Weights = dict[str, mx.array]


def block_influence(model: Model, rows: Sequence[mx.array]) -> np.ndarray:
    """Return ShortGPT's block influence of each layer: 1 - mean cosine of its input and output.

    Men et al. 2024, equation 1.
    """
    layers = layers_of(model)
    sums, count = np.zeros(len(layers)), 0
    for tokens in rows:
        ctx = Context()
        x = model.embedded({"tokens": tokens}, ctx)
        for i, layer in enumerate(layers):
            y = layer(x, ctx)
            dot = (x * y).sum(axis=-1)
            norms = mx.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
            sums[i] += float(np.array((dot / mx.maximum(norms, 1e-12)).sum()))
            x = y
        count += tokens.size
    return 1 - sums / count


def fewer_layers(table: Table, weights: Weights, gone: Sequence[int]) -> tuple[Table, Weights]:
    """Return a model table and weights without some layers.

    Raises:
        RecipeError: layers differ or share weights, or none or all of them would be removed.
    """
    n = table["n_layers"]
    if len(table.get("pattern") or ["block"]) > 1 or table.get("n_distinct"):
        raise RecipeError("Layers of several kinds, or shared ones, can't be taken out.")
    if not 0 < len(gone) < n:
        raise RecipeError(f"{len(gone)} of {n} layers can't go: at least one goes and one stays.")
    remaining = [i for i in range(n) if i not in gone]
    out: Weights = {}
    for name, array in weights.items():
        head, sep, rest = name.partition("stack.blocks.")
        if not sep:
            out[name] = array
            continue
        number, _, leaf = rest.partition(".")
        if int(number) in remaining:
            out[f"{head}stack.blocks.{remaining.index(int(number))}.{leaf}"] = array
    return {**table, "n_layers": len(remaining)}, out


def head_scores(model: Model, rows: Sequence[mx.array]) -> dict[str, np.ndarray]:
    """Return the mean squared output of each key/value group of heads, by the path of its mixer."""
    blocks = {p: m for p, m in model.named_modules() if isinstance(m, BlockModule)}
    groups = {
        f"{path}.mixer.o": groups_of(block.config.mixer.model_dump())
        for path, block in sorted(blocks.items())
    }
    paths = list(groups)
    sums: dict[str, mx.array] = {}

    def see(path: str, x: mx.array) -> None:
        o = model_layer(model, path)
        flat = x.reshape(-1, x.shape[-1])
        moment = flat.T @ flat
        sums[path] = sums.get(path, mx.zeros(())) + moment
        mx.eval(sums[path], o)

    weights = {path: model_layer(model, path)["weight"] for path in paths}
    with recording(model, paths, see):
        for tokens in rows:
            ctx = Context()
            mx.eval(model.hidden(model.embedded({"tokens": tokens}, ctx), ctx))
    scores = {}
    for path in paths:
        w, moment = weights[path], sums[path]
        width = w.shape[1] // groups[path]
        scores[path.removesuffix(".o")] = np.array(
            [
                float(np.array(((w[:, s] @ moment[s, s]) * w[:, s]).sum()))
                for s in (slice(g * width, (g + 1) * width) for g in range(groups[path]))
            ]
        )
    return scores


def fewer_heads(
    table: Table, weights: Weights, scores: Mapping[str, np.ndarray], keep: int
) -> tuple[Table, Weights]:
    """Return a model table and weights with the `keep` best groups of heads of each layer.

    A group is a key/value head with its queries; with as many of both it is one head.

    Raises:
        RecipeError: `keep` removes no group or all of them.
    """
    table = deepcopy(table)
    mixer = table["block"]["mixer"]
    n_heads, n_groups = mixer["n_heads"], groups_of(mixer)
    if not 0 < keep < n_groups:
        raise RecipeError(
            f"--heads {keep}: the model has {n_groups} heads with keys of their own; keep at least "
            "1 and fewer than that."
        )
    head_dim = mixer.get("head_dim") or table["dim"] // n_heads
    out = dict(weights)
    for path, score in scores.items():
        best = sorted(np.argsort(-score, kind="stable")[:keep].tolist())
        for name in "qkvo":
            per = (n_heads // n_groups if name in "qo" else 1) * head_dim
            rows = mx.array(np.concatenate([np.arange(g * per, (g + 1) * per) for g in best]))
            weight = out[f"{path}.{name}.weight"]
            out[f"{path}.{name}.weight"] = weight[:, rows] if name == "o" else weight[rows]
            if name != "o" and f"{path}.{name}.bias" in out:
                out[f"{path}.{name}.bias"] = out[f"{path}.{name}.bias"][rows]
    mixer |= {"n_heads": n_heads // n_groups * keep, "head_dim": head_dim}
    if mixer.get("n_kv_heads"):
        mixer["n_kv_heads"] = keep
    return table, out


def hidden_scores(model: Model, rows: Sequence[mx.array]) -> dict[str, np.ndarray]:
    """Return the mean squared output of each hidden feature of every ffn, by its path."""
    blocks = {p: m for p, m in sorted(model.named_modules()) if isinstance(m, BlockModule)}
    downs = [f"{p}.ffn.down" for p, m in blocks.items() if "ffn" in m and "down" in m["ffn"]]
    weights = {path: model_layer(model, path)["weight"] for path in downs}
    sums: dict[str, mx.array] = {}

    def see(path: str, x: mx.array) -> None:
        squares = (x.reshape(-1, x.shape[-1]) ** 2).sum(axis=0)
        sums[path] = sums.get(path, mx.zeros(())) + squares
        mx.eval(sums[path])

    with recording(model, downs, see):
        for tokens in rows:
            ctx = Context()
            mx.eval(model.hidden(model.embedded({"tokens": tokens}, ctx), ctx))
    return {
        path.removesuffix(".down"): np.array(sums[path] * (weights[path] ** 2).sum(axis=0))
        for path in downs
    }


def narrower_ffns(
    table: Table, weights: Weights, scores: Mapping[str, np.ndarray], keep: int
) -> tuple[Table, Weights]:
    """Return a model table and weights with the `keep` best hidden features of each ffn.

    Raises:
        RecipeError: the ffns have no hidden width, or `keep` removes no feature or all of them.
    """
    table = deepcopy(table)
    ffn = table["block"].get("ffn") or {}
    width = ffn.get("hidden_dim")
    if not scores or not isinstance(width, int):
        raise RecipeError("The model has no ffn of one hidden width (mlp or glu) to make narrower.")
    if not 0 < keep < width:
        raise RecipeError(
            f"--hidden {keep}: the ffns are {width} wide; keep fewer, and at least 1."
        )
    out = dict(weights)
    for path, score in scores.items():
        rows = mx.array(np.sort(np.argsort(-score, kind="stable")[:keep]))
        for name in ("gate", "up"):
            for leaf in ("weight", "bias"):
                if (full := f"{path}.{name}.{leaf}") in out:
                    out[full] = out[full][rows]
        out[f"{path}.down.weight"] = out[f"{path}.down.weight"][:, rows]
    ffn["hidden_dim"] = keep
    return table, out


def groups_of(mixer: Mapping[str, Any]) -> int:
    """Return the number of key/value heads of a mixer's table.

    Raises:
        RecipeError: the mixer is not attention, so its heads can't be pruned.
    """
    if mixer.get("kind") != "attention":
        raise RecipeError(
            f"--heads prunes those of attention, and the model has a mixer of kind "
            f"'{mixer.get('kind')}': prune another part."
        )
    return int(mixer.get("n_kv_heads") or mixer["n_heads"])


def model_layer(model: nn.Module, path: str) -> nn.Module:
    """Return the module at a path."""
    layer: nn.Module = dict(model.named_modules())[path]
    return layer
