"""Generates a JSON schema and a Markdown reference from the recipe classes."""

import inspect
import math

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from .config import Config, Kind
from .docstrings import description
from .fields import choices, in_words
from .keys import MODEL_SLOT, survey
from .merge import Table
from .slot import KINDS
from .toml import toml_value

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
    tables, slots = survey(root)
    parts = ["# Recipe reference", _doc(root), _rows(root)]
    for cls, path in tables.items():
        parts += [f"## `[{path}]`", _doc(cls), _rows(cls)]
    for slot, paths in slots.items():
        fills = ", ".join(f"`[{path}]`" for path in dict.fromkeys(paths))
        parts += [f"## Slot `{slot}`", f"Stands in {fills}."]
        for kind, cls in KINDS.get(slot, {}).items():
            parts += [f"### `{kind}`", _doc(cls), _rows(cls)]
    return "\n\n".join(part for part in parts if part) + "\n"


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
