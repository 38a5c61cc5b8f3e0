"""Adapters as PEFT's and mlx-lm's folders: the inverse of the readers beside this file."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ...core.errors import ConvertError
from ..weights import Move
from .layout import WEIGHT, Arrays, Factors, Layout
from .peft import PREFIX

PEFT_DEFAULTS = {"inference_mode": True, "bias": "none", "modules_to_save": None, "revision": None}
FUSE = "Merge it into its base with mlxt fuse, and export the result."


@dataclass(frozen=True)
class Written:
    """The files of an adapter's folder.

    Attributes:
        config: the content of adapter_config.json.
        tensors: by name.
    """

    config: dict[str, Any]
    tensors: Arrays


@dataclass(frozen=True)
class Module:
    """The update of a published module.

    Attributes:
        name: the module's.
        factors: `A [R, in]`, `B [out, R]`, s, and DoRA's norms `[out]`.
        is_table: whether it looks up rows of a table.
    """

    name: str
    factors: Factors
    is_table: bool


def published_modules(layout: Layout, updates: Mapping[str, Factors]) -> list[Module]:
    """Low-rank updates of our layers as those of published modules.

    Layers that are packed into one module become one update, whose rank is the sum of theirs.

    Raises:
        ConvertError: a layer has no module of its own, such as stacked experts.
    """
    modules, done = [], set[str]()
    for path in updates:
        move = move_of(layout, path)
        if move.theirs[0] in done:
            continue
        done.add(move.theirs[0])
        name = move.theirs[0].removesuffix(WEIGHT)
        if len(move.theirs) > 1:
            raise ConvertError(
                f"{path} has an update of stacked experts, which PEFT has under names that depend "
                f"on the version of transformers. {FUSE} mlx-lm has one form of them: --to mlx-lm."
            )
        of_layers = [updates.get(layer_path) for layer_path in layout.layers(move)]
        modules.append(Module(name, _joined(layout, move, of_layers), layout.is_table(move)))
    return modules


def move_of(layout: Layout, path: str) -> Move:
    """The row that moves the weight of one of our layers.

    Raises:
        ConvertError: there is none.
    """
    move = next((m for m in layout.moves.values() if path + WEIGHT in m.ours), None)
    if move is None:
        raise ConvertError(f"The family has no module for the adapted {path}. {FUSE}")
    return move


def _joined(layout: Layout, move: Move, updates: list[Factors | None]) -> Factors:
    """The updates of layers that one module holds, as its update."""
    present = [update for update in updates if update is not None]
    is_single = len(updates) == 1
    scale = present[0].scale if is_single else 1.0
    total, begin, parts = sum(update.a.shape[0] for update in present), 0, []
    for name, update in zip(move.ours, updates, strict=True):
        out = layout.shapes[name][0]
        if update is None:
            parts.append(mx.zeros((out, total)))
            continue
        rank = update.a.shape[0]
        b = update.b if is_single else update.scale * update.b
        parts.append(mx.pad(b, [(0, 0), (begin, total - begin - rank)]))
        begin += rank
    b = move.via.save(parts)[0]
    norms = [
        update.magnitude
        for update in updates
        if update is not None and update.magnitude is not None
    ]
    if norms and len(norms) < len(updates):
        raise ConvertError(
            f"{move.theirs[0]} packs several layers, of which some have a DoRA update. {FUSE}"
        )
    magnitude = move.via.save(norms)[0] if norms else None
    a = mx.concatenate([update.a for update in present])
    return Factors(a, b.T if layout.transposed(move) else b, scale, magnitude)


def peft_low_rank(
    modules: list[Module], *, dora: bool, rslora: bool, conv1d: bool, dropout: float
) -> Written:
    """A LoRA or DoRA as PEFT saves it."""
    power = 0.5 if rslora else 1.0
    ranks = {m.name: m.factors.a.shape[0] for m in modules}
    alphas = {m.name: m.factors.scale * math.pow(ranks[m.name], power) for m in modules}
    rank, alpha = usual(ranks), usual(alphas)
    tensors: Arrays = {}
    for module in modules:
        name, factors = f"{PREFIX}{module.name}", module.factors
        if module.is_table:
            if factors.magnitude is not None:
                raise ConvertError(f"PEFT's DoRA scales columns of an embedding, not rows. {FUSE}")
            tensors[f"{name}.lora_embedding_A"] = factors.b.T
            tensors[f"{name}.lora_embedding_B"] = factors.a.T
            continue
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = factors.a, factors.b
        if factors.magnitude is not None:
            tensors[f"{name}.lora_magnitude_vector"] = factors.magnitude
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": _whole(alpha),
        "lora_dropout": dropout,
        "rank_pattern": {_exact(n): r for n, r in ranks.items() if r != rank},
        "alpha_pattern": {_exact(n): _whole(a) for n, a in alphas.items() if a != alpha},
        "use_rslora": rslora,
        "use_dora": dora,
        "fan_in_fan_out": conv1d,
        "target_modules": sorted(ranks),
        "init_lora_weights": True,
    }
    return Written(PEFT_DEFAULTS | config, tensors)


def mlx_lm_low_rank(
    layout: Layout,
    updates: Mapping[str, Factors],
    *,
    dora: bool,
    n_layers: int,
    name_of: Callable[[str], str],
) -> Written:
    """A LoRA or DoRA as mlx-lm saves it, with one rank and one factor s for all modules.

    Smaller ranks are filled with zeros, and differing factors s go into B.

    Args:
        layout: the published names of the base.
        updates: by the path of our layer.
        dora: whether they are DoRA's.
        n_layers: number of layers of the model.
        name_of: mlx-lm's name of a published module.
    """
    stacks = {path: update for path, update in updates.items() if update.a.ndim == 3}
    flat = published_modules(
        layout, {p: update for p, update in updates.items() if p not in stacks}
    )
    scale = usual({path: update.scale for path, update in updates.items()})
    rank = max(update.a.shape[-2] for update in (*(m.factors for m in flat), *stacks.values()))
    tensors: Arrays = {}
    for module in flat:
        name, update = name_of(module.name), module.factors
        a, b = _filled(update, rank, scale)
        if module.is_table:
            a, b = b.T, a.T
        tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"] = a.T, b.T
        if update.magnitude is not None:
            tensors[f"{name}.m"] = update.magnitude
    for path, update in stacks.items():
        name = name_of(_switch_name(move_of(layout, path).theirs[0].removesuffix(WEIGHT)))
        tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"] = _filled(update, rank, scale)
    modules = sorted({name.rpartition(".")[0] for name in tensors})
    inside = [re.sub(r"^.*?\.\d+\.", "", name) for name in modules]
    config = {
        "fine_tune_type": "dora" if dora else "lora",
        "num_layers": n_layers,
        "lora_parameters": {
            "rank": rank,
            "dropout": 0.0,
            "scale": scale,
            "keys": sorted(set(inside)),
        },
    }
    return Written(config, tensors)


def _filled(update: Factors, rank: int, scale: float) -> tuple[mx.array, mx.array]:
    """Factors of the same update with another rank and another factor s."""
    missing, stack = rank - update.a.shape[-2], [(0, 0)] * (update.a.ndim - 2)
    a = mx.pad(update.a, [*stack, (0, missing), (0, 0)])
    return a, mx.pad(update.b * (update.scale / scale), [*stack, (0, 0), (0, missing)])


def _switch_name(expert: str) -> str:
    """mlx-lm's name of a stack, for the published name of its first expert's layer."""
    before, _, name = expert.partition(".experts.0.")
    stack_name = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}.get(name, name)
    return f"{before}.switch_mlp.{stack_name}"


def usual(values: Mapping[str, Any]) -> Any:
    """The most frequent of some values."""
    every = list(values.values())
    return max(every, key=every.count)


def _whole(number: float) -> int | float:
    """A number without its fraction where that is zero."""
    near = round(number, 9)
    return int(near) if near == int(near) else number


def _exact(name: str) -> str:
    """A regular expression of this name alone."""
    return re.escape(name)


def as_json(config: Mapping[str, Any]) -> str:
    """The text of an adapter_config.json."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"
