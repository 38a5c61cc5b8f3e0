"""Describes the values that a config class allows, from its annotations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic.fields import FieldInfo

from .config import Config
from .slot import KINDS, Slot
from .toml import toml_value

_WORDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("a string", "strings"),
    Path: ("a path", "paths"),
    Any: ("any value", "values"),
    dict: ("a table", "tables"),
    list: ("a list", "lists"),
}


@dataclass(frozen=True)
class Type:
    """One choice of a union annotation: a type with its bounds or its slot."""

    of: Any
    limits: tuple[Any, ...] = ()

    @property
    def slot(self) -> str | None:
        """The name of the slot, if this is one."""
        names = [limit.name for limit in self.limits if isinstance(limit, Slot)]
        return names[0] if names else None

    @property
    def config(self) -> type[Config] | None:
        """The config class, if this is a table of fixed keys."""
        is_config = isinstance(self.of, type) and issubclass(self.of, Config)
        return self.of if is_config and self.slot is None else None

    @property
    def label(self) -> str:
        """Beginning of the name that pydantic gives this choice in the location of an error."""
        if self.slot is not None:
            return "tagged-union"
        origin = get_origin(self.of) or self.of
        return "literal" if origin is Literal else _name(origin)


def choices(field: FieldInfo) -> list[Type]:
    """List the types that a field takes, without None."""
    return list(_flat(field.annotation, tuple(field.metadata)))


def items(of: Type) -> list[Type]:
    """List the item types of a list, a tuple or a table of free keys."""
    args = [arg for arg in get_args(of.of) if arg is not Ellipsis]
    if get_origin(of.of) in (dict, Mapping):
        args = args[1:]
    return [choice for arg in args for choice in _flat(arg, ())]


def optional(field: FieldInfo) -> bool:
    """Whether a field can be None."""
    return NoneType in get_args(field.annotation)


def configs(of: Type) -> list[type[Config]]:
    """List the config classes of a type: the class itself, the kinds of its slot, or its items'."""
    if of.slot is not None:
        return list(KINDS.get(of.slot, {}).values())
    if of.config is not None:
        return [of.config]
    return [cls for item in items(of) for cls in configs(item)]


def in_words(types: list[Type]) -> str:
    """Describe the allowed values: "a whole number greater than 0, or one of "auto", "off""."""
    return ", or ".join(dict.fromkeys(_words(of) for of in types)) or "any value"


def _flat(annotation: object, limits: tuple[Any, ...]) -> Iterator[Type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        yield from _flat(inner, (*more, *limits))
    elif origin in (Union, UnionType) and not any(isinstance(x, Slot) for x in limits):
        for arg in get_args(annotation):
            yield from _flat(arg, limits)
    elif annotation is not NoneType:
        yield Type(annotation, limits)


def _name(of: object) -> str:
    return of.__name__ if isinstance(of, type) else str(of)


def _words(of: Type, many: bool = False) -> str:
    if of.slot is not None:
        kinds = ", ".join(KINDS.get(of.slot, {}))
        return f"{'tables' if many else 'a table'} whose kind is one of: {kinds}"
    if of.config is not None:
        return "tables" if many else "a table"
    origin, args = get_origin(of.of), get_args(of.of)
    if origin is Literal:
        values = ", ".join(toml_value(arg) for arg in args)
        return values if len(args) == 1 else f"one of {values}"
    phrase = _WORDS.get(of.of, (f"a {_name(of.of)}",) * 2)[many]
    if origin in (list, tuple, dict):
        inner = " or ".join(dict.fromkeys(_words(item, many=True) for item in items(of)))
        exact = f"{len(args)} " if origin is tuple and Ellipsis not in args else ""
        what = "table" if origin is dict else "list"
        phrase = f"{what}s of {exact}{inner}" if many else f"a {what} of {exact}{inner}"
    bounds = list(_bounds(of.limits))
    return f"{phrase} {' and '.join(bounds)}" if bounds else phrase


def _bounds(limits: tuple[Any, ...]) -> Iterator[str]:
    for limit in limits:
        if isinstance(limit, FieldInfo):
            yield from _bounds(tuple(limit.metadata))
        elif bound := _bound(limit):
            yield bound


def _bound(limit: object) -> str | None:
    """One limit of a value in words, e.g. "at least 3"; None for what is no bound."""
    match limit:
        case Gt(bound):
            return f"greater than {bound}"
        case Ge(bound):
            return f"at least {bound}"
        case Lt(bound):
            return f"less than {bound}"
        case Le(bound):
            return f"at most {bound}"
        case MultipleOf(bound):
            return f"a multiple of {bound}"
        case MinLen(bound):
            return f"at least {bound} long"
        case MaxLen(bound):
            return f"at most {bound} long"
        case BaseMetadata(pattern=str(pattern)):  # type: ignore[misc]  # a class of pydantic's
            return f"matching {pattern}"
    return None
