"""Merge rules of recipes, as pure functions of nested dicts.

1. Tables merge key by key and the child wins; lists and scalars replace.
2. A table whose `kind` changes replaces the parent's table whole.
3. `unset` removes inherited keys; unsetting what is not there is an error.
4. `[X.blocks.NAME]` is a diff against `[X.block]`.

Everything works on plain tables and on tables of `Leaf`s alike: a `Leaf` is a value that
remembers which recipe set it and compares by value only.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..core.errors import FormatError, RecipeError
from ..core.names import nearest
from ..core.parse import parse_toml

Table = dict[str, Any]
"""A table of a recipe, or of a published config, by its keys."""
KeyPath = tuple[str, ...]


class Gone(Enum):
    """Marks a key that a diff removes."""

    GONE = "removed by unset"


GONE = Gone.GONE


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value of a recipe (anything but a table) and the recipe that set it."""

    value: Any
    where: str = field(compare=False)


def dotted(path: KeyPath) -> str:
    """Join keys to a dotted path, `model.block.dim`, with quotes where TOML needs them."""
    return ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key) for key in path)


def quoted(text: str) -> str:
    """Quote a string as TOML does, on one line."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}

    def escape(match: re.Match[str]) -> str:
        return escapes.get(match[0], f"\\u{ord(match[0]):04x}")

    return '"' + re.sub(r'[\\"\x00-\x1f\x7f]', escape, text) + '"'


def keys(text: str) -> KeyPath:
    """Split a dotted path into keys; the inverse of `dotted`.

    Raises:
        RecipeError: `text` is not a dotted key of TOML.
    """
    problem = RecipeError(f"'{text}' is not a path. Write keys with dots, e.g. 'train.steps'.")
    if "\n" in text or "=" in re.sub(r"\"[^\"]*\"|'[^']*'", "", text):
        raise problem
    try:
        node: Any = parse_toml(f"{text} = 0", f"The path '{text[:60]}'")
    except tomllib.TOMLDecodeError:
        raise problem from None
    except FormatError as error:
        raise RecipeError(str(error)) from None
    path: list[str] = []
    while isinstance(node, dict) and len(node) == 1:
        [(key, node)] = node.items()
        path.append(key)
    return tuple(path)


def stamp(table: Mapping[str, Any], where: str) -> Table:
    """Wrap every value of a table in a `Leaf` with its origin `where`, unless it has its own."""

    def stamped(value: Any) -> Any:
        if isinstance(value, dict):
            return stamp(value, where)
        return value if isinstance(value, Leaf) else Leaf(value, where)

    return {key: stamped(value) for key, value in table.items()}


def bare(table: Mapping[str, Any]) -> Table:
    """Unwrap a table of `Leaf`s; the inverse of `stamp`."""
    return {
        key: bare(value) if isinstance(value, dict) else _value(value)
        for key, value in table.items()
    }


def leaves(table: Mapping[str, Any], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the keys whose value is not a table, with their paths, in the recipe's order."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def lookup(table: Mapping[str, Any], path: KeyPath) -> Any:
    """Look up the value at `path`; GONE if there is none."""
    node: Any = table
    for key in path:
        if not isinstance(node, dict) or key not in node:
            return GONE
        node = node[key]
    return _value(node)


def merge(parent: Table, child: Table, under: Table | None = None) -> Table:
    """Merge the diff `child` onto `parent` (rules 1 and 2); neither is changed.

    `under` is what `parent` is itself a diff against, for tables that leave their kind to it.
    """
    if "kind" in child:
        kind = parent.get("kind", (under or {}).get("kind"))
        if kind is not None and kind != child["kind"]:
            return dict(child)
    merged = dict(parent)
    for key, new in child.items():
        old = parent.get(key)
        if not (isinstance(old, dict) and isinstance(new, dict)):
            merged[key] = new
        elif key == "blocks" and isinstance(parent.get("block"), dict):
            merged[key] = _merge_blocks(old, new, parent["block"])
        else:
            merged[key] = merge(old, new, _subtable(under, key))
    return merged


def put(table: Table, path: KeyPath, value: object) -> Table:
    """Copy `table` with `value` at `path`, adding missing tables on the way."""
    key, *rest = path
    if not rest:
        return {**table, key: value}
    return {**table, key: put(_subtable(table, key) or {}, tuple(rest), value)}


def without(table: Table, path: KeyPath) -> Table:
    """Copy `table` without the value at `path`, if there is one."""
    key, *rest = path
    if key not in table:
        return table
    if not rest:
        return {name: value for name, value in table.items() if name != key}
    if not isinstance(table[key], dict):
        return table
    return {**table, key: without(table[key], tuple(rest))}


def descend(parent: Table, child: Table, unset: list[str], where: str) -> Table:
    """Apply one step of a chain: remove the `unset` paths from `parent`, then merge `child`.

    What a table has from its `from`, or a block from `[X.block]`, can be unset as well, unless
    `child` sets the same key itself; where a block has its own diff, unsetting removes the diff.
    Tables are `stamp`ed; `where` names the child.

    Raises:
        RecipeError: an unset path that isn't inherited, with the nearest one that is.
    """
    later = []
    for text in unset:
        path = keys(text)
        if lookup(parent, path) is GONE:
            later.append((text, path))
        else:
            parent = without(parent, path)
    merged = merge(parent, child)
    for text, path in later:
        merged = _unset_beneath(merged, text, path, where)
    return merged


def expand(table: Table) -> Table:
    """Expand every `[X.blocks.NAME]` to its full table (rule 4)."""
    out = {key: expand(value) if isinstance(value, dict) else value for key, value in table.items()}
    block, blocks = out.get("block"), out.get("blocks")
    if isinstance(block, dict) and isinstance(blocks, dict):
        out["blocks"] = {
            name: _pruned(merge(block, diff)) if isinstance(diff, dict) else diff
            for name, diff in blocks.items()
        }
    return out


def removals(table: Mapping[str, Any], path: KeyPath = ()) -> list[str]:
    """List the keys of `[X.block]` that the full blocks of a resolved table lack: the `unset` with
    which the table keeps its meaning when it is read as a recipe."""
    removed: list[str] = []
    block, blocks = table.get("block"), table.get("blocks")
    if isinstance(block, dict) and isinstance(blocks, dict):
        for name, full in blocks.items():
            if isinstance(full, dict):
                removed += _lacking(block, full, (*path, "blocks", name))
    for key, value in table.items():
        if isinstance(value, dict):
            removed += removals(value, (*path, key))
    return removed


def _value(leaf: object) -> Any:
    return leaf.value if isinstance(leaf, Leaf) else leaf


def _subtable(table: Table | None, key: str) -> Table | None:
    value = (table or {}).get(key)
    return value if isinstance(value, dict) else None


def _merge_blocks(old: Table, new: Table, block: Table) -> Table:
    merged = dict(old)
    for name, diff in new.items():
        both = isinstance(old.get(name), dict) and isinstance(diff, dict)
        merged[name] = merge(old[name], diff, block) if both else diff
    return merged


def _unset_beneath(merged: Table, text: str, path: KeyPath, where: str) -> Table:
    """Apply `unset` to keys that the recipe's own `from` or `[X.block]` brought in."""
    full = expand(merged)
    if lookup(full, path) is GONE:
        raise RecipeError(_nothing_to_unset(full, text, path, where))
    if lookup(merged, path) is GONE:
        return put(merged, path, Leaf(GONE, where))
    if any(leaf.where == where for p, leaf in leaves(merged) if p[: len(path)] == path):
        raise RecipeError(f"{where}: 'unset' names '{text}', which the same recipe sets.")
    return without(merged, path)


def _nothing_to_unset(table: Table, text: str, path: KeyPath, where: str) -> str:
    paths = {dotted(p[: i + 1]) for p, _ in leaves(table) for i in range(len(p))}
    match = nearest(text, paths)
    if match is None:
        depth = max(n for n in range(len(path)) if lookup(table, path[:n]) is not GONE)
        place = lookup(table, path[:depth])
        names = ", ".join(place) if isinstance(place, dict) else "no keys"
        inside = f"[{dotted(path[:depth])}]" if depth else "The recipe"
        hint = f"{inside} has: {names}."
    else:
        hint = f"Did you mean '{match}'?"
    return f"{where}: 'unset' names '{text}', which isn't inherited. {hint}"


def _pruned(table: Table) -> Table:
    return {
        key: _pruned(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if _value(value) is not GONE
    }


def _lacking(block: Table, full: Table, path: KeyPath) -> list[str]:
    if "kind" in block and "kind" in full and block["kind"] != full["kind"]:
        return []
    lacking = []
    for key, value in block.items():
        if key not in full:
            lacking.append(dotted((*path, key)))
        elif isinstance(value, dict) and isinstance(full[key], dict):
            lacking += _lacking(value, full[key], (*path, key))
    return lacking
