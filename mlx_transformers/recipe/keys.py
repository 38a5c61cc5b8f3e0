"""Where the keys of a recipe stand, and which of them a user may have meant."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic.fields import FieldInfo

from ..core.names import equivalent, nearest
from .config import Config
from .fields import Type, choices, items
from .merge import Table, lookup
from .slot import KINDS

MODEL_SLOT = "model"
"""The slot whose tables can take another recipe's model by `from`."""

ALIKE = 0.8
"""Least similarity of a misspelt key that is looked for in all tables."""

USUAL = ("model.", "train.", "optim.", "data.", "eval.")
"""Tables that recipes mostly change."""


def survey(root: type[Config]) -> tuple[dict[type[Config], str], dict[str, list[str]]]:
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


def fixed_keys(root: type[Config]) -> list[str]:
    """List the paths of the keys that every recipe has, whatever kinds fill its slots."""
    keys = []
    for cls, path in {root: "", **survey(root)[0]}.items():
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


def nearest_settable(root: Config, key: str) -> list[str]:
    """The paths of the key that `key` probably means among the values, not tables, that the tables
    of a typed recipe have; in order of the recipe."""
    paths: dict[str, list[str]] = {}
    for path in _settable(root):
        paths.setdefault(path.rpartition(".")[2], []).append(path)
    match = key if key in paths else _nearest_of(key, paths)
    return [] if match is None else paths.get(match, [match])


def _places(
    root: type[Config], all_slots: bool = False
) -> list[tuple[str, type[Config], str | None]]:
    """The path, class and kind of each table and of each kind at a slot's first path, or at all of
    them; the shallow ones first."""
    tables, slots = survey(root)
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


def _tables_of(info: FieldInfo, path: str) -> Iterator[tuple[Type, str]]:
    for of in choices(info):
        if of.slot is not None or of.config is not None:
            yield of, path
        else:
            mark = ".NAME" if of.label == "dict" else ""
            yield from ((item, path + mark) for item in items(of) if item.slot or item.config)
