"""Writes resolved recipes as TOML that reads back as the same tables."""

import math
from collections.abc import Mapping
from datetime import date, time
from typing import Any

from .merge import dotted, quoted, removals

WIDTH = 100


def to_toml(data: Mapping[str, Any], origin: Mapping[str, str] | None = None) -> str:
    """Write `data` as a recipe, with `# from FILE` beside each key if `origin` is given.

    Reading it back gives `data` again: numbers, strings, lists and nested tables keep their
    types. None has no spelling in TOML, so a key whose value is None is left out. When a block
    lacks what `[X.block]` has, an `unset` on top keeps it so.

    Raises:
        TypeError: a value that TOML can't hold.
    """
    removed = [] if "unset" in data else removals(data)
    table = {"unset": removed, **data} if removed else data
    return "\n".join(_table(table, (), origin or {})).strip("\n") + "\n"


def toml_value(value: object) -> str:
    """Write one value as TOML.

    Raises:
        TypeError: TOML has no such value.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = [f"{dotted((k,))} = {toml_value(v)}" for k, v in value.items() if v is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    raise TypeError(f"A recipe can't hold {value!r}: TOML has no such value.")


def _table(table: Mapping[str, Any], path: tuple[str, ...], origin: Mapping[str, str]) -> list[str]:
    values = {k: v for k, v in table.items() if not isinstance(v, Mapping) and v is not None}
    tables = {k: v for k, v in table.items() if isinstance(v, Mapping)}
    lines = ["", f"[{dotted(path)}]"] if path and (values or not tables) else []
    for key, value in values.items():
        where = origin.get(dotted((*path, key)))
        lines += _pair(key, value, f"  # from {where}" if where else "")
    for key, value in tables.items():
        lines += _table(value, (*path, key), origin)
    return lines


def _pair(key: str, value: object, comment: str) -> list[str]:
    name = dotted((key,))
    line = f"{name} = {toml_value(value)}{comment}"
    if len(line) <= WIDTH or not isinstance(value, list | tuple) or not value:
        return [line]
    return [f"{name} = [{comment}", *(f"    {toml_value(item)}," for item in value), "]"]
