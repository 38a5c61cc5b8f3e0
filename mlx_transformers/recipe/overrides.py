"""Parses `--set path=value`, the last recipe of a chain."""

import tomllib
from collections.abc import Iterable
from typing import Any

from ..core.errors import FormatError, RecipeError
from ..core.parse import parse_toml
from ..core.paths import shown
from .merge import GONE, KeyPath, Table, dotted, keys, lookup, put, quoted

SET = "--set"
"""Origin of a value that the command line set."""

ALIASES = {
    "steps": "train.steps",
    "batch_size": "train.batch_size",
    "learning_rate": "optim.learning_rate",
    "data": "data.path",
    "seed": "train.seed",
}
"""Options that users know from elsewhere; each is only a spelling of --set."""


ENDS = {"[": "]", "{": "}", '"': '"', "'": "'"}
"""The first and the last character of lists, tables and strings."""


def alias(name: str, value: object) -> str:
    """Spell an alias as a `--set` string: ("steps", 100) -> "train.steps=100"."""
    return f"{ALIASES[name]}={quoted(value) if isinstance(value, str) else value}"


def parse_sets(sets: Iterable[str]) -> Table:
    """Parse a list of `path=value` strings into a recipe.

    A value is one of TOML; a word that isn't one is a string, so quotes can be left out.

    Raises:
        RecipeError: a string without '=', a malformed path or list, a path given twice.
    """
    table: Table = {}
    for text in sets:
        path, value = _parse(text)
        for depth in range(1, len(path)):
            if not isinstance(above := lookup(table, path[:depth]), dict) and above is not GONE:
                raise RecipeError(
                    f"{SET} {text}: another {SET} makes '{dotted(path[:depth])}' a value, "
                    f"so it can't have keys."
                )
        if lookup(table, path) is not GONE:
            raise RecipeError(f"{SET} {text}: '{dotted(path)}' is set twice. Give it once.")
        table = put(table, path, value)
    return table


def _parse(text: str) -> tuple[KeyPath, Any]:
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not equals or not path:
        raise RecipeError(f"{SET} {text}: write it as path=value, e.g. {SET} train.steps=200.")
    if not value:
        raise RecipeError(
            f"{SET} {text}: no value. Write {path}='\"\"' for an empty string, or "
            f"unset='[\"{path}\"]' to remove an inherited key."
        )
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise RecipeError(
            f"{SET} {shown(text)}: the value has bytes that are not UTF-8, which a recipe can't "
            "hold. Rename the file or folder."
        )
    return keys(path), _toml_value(text, value)


def _toml_value(text: str, value: str) -> Any:
    try:
        parsed = parse_toml(f"value = {value}", f"{SET} {text[:60]}")
    except tomllib.TOMLDecodeError as error:
        end = ENDS.get(value[0])
        # Nor is "[v2]/*.txt" one: its bracket is closed before its end.
        if end is None or (end in value[1:-1] and value[-1] != end):
            return value
        path = text.partition("=")[0].strip()
        raise RecipeError(
            f"{SET} {text}: '{value}' starts as a list, table or string of TOML but isn't one "
            f"({error}). For a list, put quotes around it for the shell: {SET} 'a.b=[1, 2]'. For a "
            f"text with brackets, quote it twice: {SET} '{path}=\"TEXT\"'."
        ) from None
    except FormatError as error:
        raise RecipeError(str(error)) from None
    return parsed["value"] if len(parsed) == 1 else value
