"""Stacks of experts as numbered modules, which is how transformers saves most families.

mlx-lm's files have a stack for each matrix, `...switch_mlp.gate_proj`; some published files have
one for gate and up together, `...experts.gate_up_proj`, and one for down.
"""

import re
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from ..core.errors import ConvertError
from .config import STORAGE, HfConfig

STACK = re.compile(r"(?P<before>.+)\.switch_mlp\.(?P<name>[^.]+)(?P<leaf>\.[^.]+)?")

PUBLISHED = re.compile(r"(?P<before>.+)\.experts\.(?P<name>gate_up_proj|down_proj)")
NUMBERED = ("qwen3_5_moe_text",)
"""Families whose published files have the stacks of `PUBLISHED`, and transformers' own don't."""
JOINED = ("granitemoe", "granitemoeshared", "granitemoehybrid")
"""Families whose published files have all experts of a layer in two tensors."""


def unstacked(tensors: Mapping[str, mx.array], config: HfConfig) -> dict[str, mx.array]:
    """Return tensors with stacks of experts as one tensor per expert; its layers keep their names,
    which the family renames.

    The config's tables on how single modules are packed follow their names.

    Args:
        tensors: those of the file; packed words, scales and biases are stacked alike.
        config: their config.

    Raises:
        ConvertError: the family's published files have no numbered experts.
    """
    tensors_out: dict[str, mx.array] = {}
    experts: dict[str, int] = {}
    if config.model_type in NUMBERED:
        tensors = numbered(tensors)
    for name, array in tensors.items():
        match = STACK.fullmatch(name)
        if match is None or match["leaf"] is None:
            tensors_out[name] = array
            continue
        if config.model_type in JOINED:
            raise ConvertError(
                f"{config.where}: the tensor {name} is a stack as mlx-lm writes it, which isn't "
                f"read for {config.model_type}. Import the folder that mlx-lm converted."
            )
        experts[name.removesuffix(match["leaf"])] = len(array)
        for number, matrix in enumerate(array):
            tensors_out[f"{_module(match, number)}{match['leaf']}"] = matrix
    for key in STORAGE:
        if isinstance(table := config.data.get(key), dict):
            config.data[key] = _of_experts(table, experts)
    return tensors_out


def numbered(tensors: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Return tensors with `experts.gate_up_proj [E, 2F, D]` and `experts.down_proj [E, D, F]` as
    one tensor per expert."""
    found: dict[str, mx.array] = {}
    for name, array in tensors.items():
        match = PUBLISHED.fullmatch(name)
        if match is None or array.ndim != 3:
            found[name] = array
            continue
        joined = match["name"] == "gate_up_proj"
        parts = array.split(2, axis=1) if joined else [array]
        names = ("gate_proj", "up_proj") if joined else ("down_proj",)
        for part, matrix in zip(parts, names, strict=True):
            for number, weight in enumerate(part):
                found[f"{match['before']}.experts.{number}.{matrix}.weight"] = weight
    return found


def _module(match: re.Match[str], number: int) -> str:
    return f"{match['before']}.experts.{number}.{match['name']}"


def _of_experts(table: Mapping[str, Any], experts: Mapping[str, int]) -> dict[str, Any]:
    """A table on packing with a row for each expert in place of those of stacks."""
    table_out: dict[str, Any] = {}
    for name, value in table.items():
        match = STACK.fullmatch(name) if name in experts else None
        if match is None:
            table_out[name] = value
            continue
        table_out |= {_module(match, number): value for number in range(experts[name])}
    return table_out
