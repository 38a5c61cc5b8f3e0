"""Generates a JSON schema and a Markdown reference from the recipe classes."""

import inspect
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ..core.names import equivalent, nearest
from .config import Config, Kind
from .docstrings import description
from .fields import Type, choices, in_words, items
from .merge import Table, lookup
from .slot import KINDS
from .toml import toml_value

MODEL_SLOT = "model"
"""The slot whose tables can take another recipe's model by `from`."""

ALIKE = 0.8
"""Least similarity of a misspelt key that is looked for in all tables."""

NOTHING: Table = {}

USUAL = ("model.", "train.", "optim.", "data.", "eval.")
"""Tables that recipes mostly change."""

_EXTENDS = "The parent recipe, relative to this file. This recipe is a diff against it."
_UNSET = "Paths of inherited keys to remove, e.g. 'model.block.mixer.window'."
_FROM = "A recipe whose [model] this table starts from; the other keys are a diff on it."


def json_schema(root: type[Config]) -> Table:
    """Make a JSON schema of recipe files, for editors.

    Nothing is required, since a recipe is a diff against its parent, and any kind's keys are
    offered where the kind is left to the parent.
    """
    schema = root.model_json_schema(schema_generator=_Diffs)
    _loosen(schema)
    schema["properties"] = {
        "extends": {"type": "string", "description": _EXTENDS},
        "unset": {"type": "array", "items": {"type": "string"}, "description": _UNSET},
        **schema["properties"],
    }
    model_names = {cls.__name__ for cls in KINDS.get(MODEL_SLOT, {}).values()}
    for name, table in schema.get("$defs", {}).items():
        if name in model_names:
            table["properties"]["from"] = {"type": "string", "description": _FROM}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def reference(root: type[Config]) -> str:
    """Describe every table, slot and kind of a recipe in Markdown, from the classes' docstrings."""
    tables, slots = _survey(root)
    parts = ["# Recipe reference", _doc(root), _rows(root)]
    for cls, path in tables.items():
        parts += [f"## `[{path}]`", _doc(cls), _rows(cls)]
    for slot, paths in slots.items():
        fills = ", ".join(f"`[{path}]`" for path in dict.fromkeys(paths))
        parts += [f"## Slot `{slot}`", f"Stands in {fills}."]
        for kind, cls in KINDS.get(slot, {}).items():
            parts += [f"### `{kind}`", _doc(cls), _rows(cls)]
    return "\n\n".join(part for part in parts if part) + "\n"


def fixed_keys(root: type[Config]) -> list[str]:
    """List the paths of the keys that every recipe has, whatever kinds fill its slots."""
    keys = []
    for cls, path in {root: "", **_survey(root)[0]}.items():
        if path.count(".") > 1 or ".NAME" in path or path.startswith(f"{MODEL_SLOT}."):
            continue
        fields = cls.model_fields
        keys += [f"{path}.{name}".lstrip(".") for name, info in fields.items() if _is_value(info)]
    return keys


def key_paths(root: type[Config], values: bool = False) -> dict[str, list[str]]:
    """The keys of all tables and kinds, each with the paths at which it stands, shortest first;
    with `values` only those that can hold something else than a table."""
    found: dict[str, list[str]] = {}
    for path, cls, _ in _places(root):
        _add_keys(found, path, cls, values)
    return found


@dataclass(frozen=True)
class Elsewhere:
    """Keys of other tables, by their last names, that a user may have meant.

    Attributes:
        own: their paths in the tables that the recipe has.
        known: their paths in all tables, shortest first.
    """

    own: dict[str, list[str]]
    known: dict[str, list[str]]

    def same(self, key: str) -> list[str]:
        """The paths of the key `key`, or of that for which another library has this word."""
        match = key if key in self.own else equivalent(key, self.own)
        return self._paths(match or (key if key in self.known else None))

    def alike(self, key: str) -> list[str]:
        """The paths of a key whose name or whole path is like `key`."""
        return self._paths(_nearest_of(key, self.own) or _nearest_of(key, self.known))

    def _paths(self, match: str | None) -> list[str]:
        """Those of the recipe; or else the shortest, first in tables that are mostly changed."""
        if match is None or match in self.own:
            return self.own.get(match or "", [])
        if match not in self.known:
            return [match]
        shortest = self.known[match][0].count(".")
        near = [path for path in self.known[match] if path.count(".") == shortest]
        return sorted(near, key=lambda path: not path.startswith(USUAL))


def elsewhere(root: type[Config], beside: str, table: Table, values: bool) -> Elsewhere:
    """The keys that may stand elsewhere than at `beside` in a recipe.

    Args:
        root: the class of recipes.
        beside: the path of the unknown key, or of what stands there instead.
        table: the recipe.
        values: whether a value was given, so that no table is meant.
    """
    own: dict[str, list[str]] = {}
    for path, cls, kind in _places(root, all_slots=True):
        there = lookup(table, tuple(path.split("."))) if path else table
        if isinstance(there, dict) and kind in (None, there.get("kind")):
            _add_keys(own, path, cls, values)
    return Elsewhere(_without(own, beside), _without(key_paths(root, values), beside))


def kinds_named(root: type[Config], name: str) -> list[str]:
    """The key that chooses the kind `name`, with its value; none if no kind has this name."""
    paths = [path for path, _, kind in _places(root) if kind == name]
    return [f"{path}.kind={name}" for path in paths[:1]]


def _places(
    root: type[Config], all_slots: bool = False
) -> list[tuple[str, type[Config], str | None]]:
    """The path, class and kind of each table and of each kind at a slot's first path, or at all of
    them; the shallow ones first."""
    tables, slots = _survey(root)
    places: list[tuple[str, type[Config], str | None]] = [("", root, None)]
    places += [(path, cls, None) for cls, path in tables.items()]
    for slot, paths in slots.items():
        for path in paths if all_slots else paths[:1]:
            places += [(path, cls, kind) for kind, cls in KINDS.get(slot, {}).items()]
    return sorted(places, key=lambda place: len(place[0].split(".")))


def _add_keys(found: dict[str, list[str]], path: str, cls: type[Config], values: bool) -> None:
    for name, info in cls.model_fields.items():
        whole = f"{path}.{name}".lstrip(".")
        fits = _is_value(info) or not values
        if fits and ".NAME" not in whole and whole not in found.setdefault(name, []):
            found[name].append(whole)


def _without(paths: dict[str, list[str]], beside: str) -> dict[str, list[str]]:
    others = {name: [p for p in places if p != beside] for name, places in paths.items()}
    return {name: places for name, places in others.items() if places}


def nearest_settable(root: Config, key: str) -> list[str]:
    """The paths of the key that `key` probably means among the values, not tables, that the tables
    of a typed recipe have; in order of the recipe."""
    paths: dict[str, list[str]] = {}
    for path in _settable(root):
        paths.setdefault(path.rpartition(".")[2], []).append(path)
    match = key if key in paths else _nearest_of(key, paths)
    return [] if match is None else paths.get(match, [match])


def _nearest_of(key: str, paths: dict[str, list[str]]) -> str | None:
    """The key, or the whole path of one, that `key` probably means."""
    return nearest(key, [*paths, *(path for places in paths.values() for path in places)], ALIKE)


def _settable(table: Config, place: str = "") -> Iterator[str]:
    """The paths of the values of a typed table and of those within it, tables of free names left
    out; the shallow ones first."""
    fields = type(table).model_fields
    yield from (f"{place}{name}" for name, info in fields.items() if _is_value(info))
    for name in fields:
        if isinstance(inner := getattr(table, name), Config):
            yield from _settable(inner, f"{place}{name}.")


def _is_value(info: FieldInfo) -> bool:
    """Whether a field can hold something else than a table."""
    return any(of.slot is None and of.config is None for of in choices(info))


class _Diffs(GenerateJsonSchema):
    """Schema generator with the docstrings of fields. It allows any kind in a slot: a diff may
    leave `kind` to its parent."""

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        json = super().tagged_union_schema(schema)
        json.pop("discriminator", None)
        if "oneOf" in json:
            json["anyOf"] = json.pop("oneOf")
        return json

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        json = super().model_schema(schema)
        for name, field in json.get("properties", {}).items():
            if text := description(schema["cls"], name):
                field["description"] = text
        return json

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def _loosen(node: object) -> None:
    """Remove `required`, and defaults that JSON can't express, in place."""
    if isinstance(node, list):
        for item in node:
            _loosen(item)
    elif isinstance(node, dict):
        if isinstance(node.get("required"), list):
            del node["required"]
        if "default" in node and not _finite(node["default"]):
            del node["default"]
        for value in node.values():
            _loosen(value)


def _finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list | tuple) else True


def _survey(root: type[Config]) -> tuple[dict[type[Config], str], dict[str, list[str]]]:
    """Find the tables of fixed keys and their first paths, and the slots and all their paths."""
    tables: dict[type[Config], str] = {}
    slots: dict[str, list[str]] = {}
    queue: deque[tuple[type[Config], str]] = deque([(root, "")])
    visited: set[type[Config]] = set()
    while queue:
        cls, path = queue.popleft()
        if cls in visited:
            continue
        visited.add(cls)
        for name, info in cls.model_fields.items():
            for of, place in _tables_of(info, f"{path}.{name}".lstrip(".")):
                if of.slot is not None:
                    slots.setdefault(of.slot, []).append(place)
                    queue.extend((kind, place) for kind in KINDS.get(of.slot, {}).values())
                elif of.config is not None:
                    tables.setdefault(of.config, place)
                    queue.append((of.config, place))
    return tables, slots


def _tables_of(info: FieldInfo, path: str) -> Iterator[tuple[Type, str]]:
    for of in choices(info):
        if of.slot is not None or of.config is not None:
            yield of, path
        else:
            mark = ".NAME" if of.label == "dict" else ""
            yield from ((item, path + mark) for item in items(of) if item.slot or item.config)


def _rows(cls: type[Config]) -> str:
    fields = {name: info for name, info in cls.model_fields.items() if name != "kind"}
    if not fields:
        return "No keys."
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, info in fields.items():
        cells = (f"`{name}`", _type(info), _default(info), description(cls, name))
        lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    return "\n".join(lines)


def _type(info: FieldInfo) -> str:
    types = [f"a `{of.slot}`" if of.slot is not None else in_words([of]) for of in choices(info)]
    return ", or ".join(dict.fromkeys(types))


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, Config):
        return f'`kind = "{value.kind}"`' if isinstance(value, Kind) else "its defaults"
    try:
        return f"`{toml_value(value)}`"
    except TypeError:
        return "its defaults"


def _doc(cls: type[Config]) -> str:
    return inspect.cleandoc(cls.__dict__.get("__doc__") or "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
