"""Lists the keys of a recipe with their origins, and the differences of two recipes."""

from collections.abc import Iterator, Mapping
from typing import Any

from .config import Config
from .load import Resolved
from .merge import KeyPath, dotted, leaves
from .toml import to_toml

__all__ = ["DEFAULT", "diff", "show", "to_toml"]

DEFAULT = "default"
"""Origin of a value that no recipe set."""

Row = tuple[str, Any, str]


def show(resolved: Resolved, typed: Config) -> list[Row]:
    """List the keys of a recipe as (path, value, origin); defaults come from the typed config."""
    return [
        (dotted(path), value, resolved.origin.get(dotted(path), DEFAULT))
        for path, value in _fields(typed, ())
    ]


def diff(
    a: Resolved | Config | Mapping[str, Any], b: Resolved | Config | Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """List the keys in which two recipes differ, as (path, value in a, value in b).

    Give typed configs to compare defaults as well. None means that a recipe has no such value.
    """
    left, right = _values(a), _values(b)
    paths = dict.fromkeys([*left, *right])
    rows = ((dotted(path), left.get(path), right.get(path)) for path in paths)
    return [row for row in rows if not _same(row[1], row[2])]


def _same(a: object, b: object) -> bool:
    """Whether two values are equal and of one type: 1, 1.0 and true differ."""
    return type(a) is type(b) and repr(a) == repr(b)


def _values(recipe: Resolved | Config | Mapping[str, Any]) -> dict[KeyPath, Any]:
    if isinstance(recipe, Config):
        return dict(_fields(recipe, ()))
    return dict(leaves(recipe.data if isinstance(recipe, Resolved) else recipe))


def _fields(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, Config):
        for name in type(value).model_fields:
            yield from _fields(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _fields(item, (*path, str(key)))
    else:
        yield path, _plain(value)


def _plain(value: object) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Config):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    return value
