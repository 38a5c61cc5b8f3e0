"""mlx-lm's folders of adapters: `adapter_config.json` and `adapters.safetensors`, read.

Factors are `lora_a [in, R]` and `lora_b [R, out]`; those of tables `lora_a [rows, R]` and `lora_b
[R, D]`; those of experts `lora_a [E, R, in]` and `lora_b [E, out, R]`. The factor s is
`lora_parameters.scale` itself.
"""

import re
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from ...core.errors import ConvertError, unknown
from ..mlx_lm import MLX_LM, Reading
from .layout import Arrays, Factors, Layout, Opened, low_rank_table, low_rank_weights

WEIGHTS = "adapters.safetensors"
TYPES = ("lora", "dora", "full")
SWITCH = ".switch_mlp."
"""mlx-lm's name of stacked experts."""


def open_mlx_lm(
    config: Mapping[str, Any], tensors: Mapping[str, mx.array], where: str, layout: Layout
) -> Opened:
    """Read an adapter that mlx-lm saved.

    Raises:
        ConvertError: an unknown type, or tensors that don't fit the base.
    """
    kind = str(config.get("fine_tune_type", "lora"))
    name_of = MLX_LM.get(layout.family.name, Reading()).published
    if kind not in TYPES:
        raise ConvertError(f"{where}: {unknown('fine_tune_type', kind, TYPES)}")
    if kind == "full":
        renamed = {name_of(name): array for name, array in tensors.items()}
        weights = layout.whole(_unstacked(renamed, layout), where)
        return Opened({"kind": "full", "train": sorted(weights)}, weights)
    settings = config.get("lora_parameters") or {}
    scale = float(settings.get("scale", 20.0))
    modules: dict[str, Arrays] = {}
    for name, array in tensors.items():
        match = re.fullmatch(r"(.+)\.(lora_a|lora_b|m)", name)
        if match is None:
            raise ConvertError(f"{where}: the tensor {name} belongs to no adapter of mlx-lm's.")
        modules.setdefault(name_of(match[1]), {})[match[2]] = array.astype(mx.float32)
    updates: dict[str, Factors] = {}
    for module, arrays in modules.items():
        if not {"lora_a", "lora_b"} <= set(arrays):
            raise ConvertError(f"{where}: {module} has one of its two factors only.")
        if kind == "dora" and "m" not in arrays:
            raise ConvertError(f"{where}: fine_tune_type is dora, but {module} has no m.")
        updates |= _updates(layout, module, arrays, scale, where)
    table = low_rank_table(
        kind, updates, rslora=False, tied=True, dropout=float(settings.get("dropout") or 0.0)
    )
    return Opened(table, low_rank_weights(updates))


def _updates(
    layout: Layout, module: str, arrays: Arrays, scale: float, where: str
) -> dict[str, Factors]:
    a, b = arrays["lora_a"], arrays["lora_b"]
    if a.ndim == 3:
        names = expert_names(layout, module)
        move = layout.move(f"{names[0]}.weight", where)
        path = layout.layers(move)[0]
        shape = tuple(layout.shapes[f"{path}.weight"])
        if (a.shape[0], b.shape[1], a.shape[2]) != shape:
            raise ConvertError(
                f"{where}: the factors {list(a.shape)} and {list(b.shape)} of {module} don't fit "
                f"{path}, {list(shape)}."
            )
        return {path: Factors(a, b, scale)}
    move = layout.move(f"{module}.weight", where)
    a, b = (b, a) if layout.is_table(move) else (a.T, b.T)
    factors = layout.factors(module, a, b, where)
    norms = layout.vectors(module, arrays["m"], where) if "m" in arrays else {}
    return {
        path: Factors(parts["a"], parts["b"], scale, norms.get(path))
        for path, parts in factors.items()
    }


def expert_names(layout: Layout, module: str) -> list[str]:
    """The experts' modules, before the family's renames, whose stack mlx-lm calls
    `...switch_mlp.NAME`."""
    before, _, name = module.partition(SWITCH)
    number = 0
    modules: list[str] = []
    while layout.renamed(f"{before}.experts.{number}.{name}.weight") in layout.moves:
        modules.append(f"{before}.experts.{number}.{name}")
        number += 1
    if not modules:
        raise ConvertError(f"The base has no experts '{module}'.")
    return modules


def _unstacked(tensors: Mapping[str, mx.array], layout: Layout) -> Arrays:
    """Whole weights as the published model has them: one tensor for each expert, and `[in, out]`
    where the family stores that, which mlx-lm turns to `[out, in]` when it loads a model."""
    unstacked: Arrays = {}
    for name, array in tensors.items():
        module, _, leaf = name.rpartition(".")
        if SWITCH not in name:
            move = layout.moves.get(layout.renamed(name))
            turned = array.ndim == 2 and move is not None and layout.transposed(move)
            unstacked[name] = array.T if turned else array
            continue
        for number, expert in enumerate(expert_names(layout, module)):
            unstacked[f"{expert}.{leaf}"] = array[number]
    return unstacked
