"""Parses `--set path=value`, the last recipe of a chain."""

import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from ..core.errors import FormatError, RecipeError
from ..core.parse import parse_toml
from ..core.paths import shown
from .merge import GONE, KeyPath, Leaf, Table, dotted, keys, leaves, lookup, put, quoted

SET = "--set"
"""Origin of a value that the command line set."""

ALIASES = {
    "steps": ("train.steps", "--steps", "--iters"),
    "batch_size": ("train.batch_size", "--batch-size"),
    "learning_rate": ("optim.learning_rate", "--learning-rate", "--lr"),
    "data": ("data.path", "--data"),
    "seed": ("train.seed", "--seed"),
}
"""Options that users know from elsewhere, each only a spelling of --set: key, and flags."""

FLAGS = frozenset(flag for _, *flags in ALIASES.values() for flag in flags)


class Alias(str):
    """A `path=value` string that an option of its own gave, by which errors name it."""

    flag: str


ENDS = {"[": "]", "{": "}", '"': '"', "'": "'"}
"""The first and the last character of lists, tables and strings."""


def alias(name: str, value: object, argv: Sequence[str] = ()) -> Alias:
    """Spell an alias as a `--set` string: ("steps", 100) -> "train.steps=100".

    `argv` is the command line, which shows by which of its flags the option was given.
    """
    key, *flags = ALIASES[name]
    text = Alias(f"{key}={quoted(value) if isinstance(value, str) else value}")
    text.flag = _typed(flags, argv) or flags[0]
    return text


def respelled(sentence: str, argv: Sequence[str]) -> str:
    """Write `--set KEY=` in an error as the alias that the command line gives this key by, since a
    key can be set once."""
    for key, *flags in ALIASES.values():
        if flag := _typed(flags, argv):
            sentence = sentence.replace(f"{SET} {key}=", f"{flag} ")
    return sentence


def _typed(flags: Sequence[str], argv: Sequence[str]) -> str | None:
    """The first of some flags that a command line has."""
    typed = (argument.partition("=")[0] for argument in argv)
    return next((word for word in typed if word in flags), None)


def set_paths(sets: Iterable[str]) -> list[str]:
    """List the paths of the keys that `path=value` strings set.

    Raises:
        RecipeError: as `parse_sets`.
    """
    return [dotted(path) for path, _ in leaves(parse_sets(sets))]


def parse_sets(sets: Iterable[str]) -> Table:
    """Parse a list of `path=value` strings into a recipe, in which a value that an option of its
    own gave is a `Leaf` of that option.

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
                    f"{_shown(text)}: another {SET} makes '{dotted(path[:depth])}' a value, "
                    f"so it can't have keys."
                )
        if lookup(table, path) is not GONE:
            raise RecipeError(f"{_shown(text)}: '{dotted(path)}' is set twice. Give it once.")
        table = put(table, path, Leaf(value, text.flag) if isinstance(text, Alias) else value)
    return table


def _shown(text: str) -> str:
    """A `path=value` string as it was typed."""
    return f"{text.flag} {text.partition('=')[2]}" if isinstance(text, Alias) else f"{SET} {text}"


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
            f"{shown(_shown(text))}: the value has bytes that are not UTF-8, which a recipe can't "
            "hold. Rename the file or folder."
        )
    return keys(path), _toml_value(text, value)


def _toml_value(text: str, value: str) -> Any:
    try:
        parsed = parse_toml(f"value = {value}", _shown(text)[:66])
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
