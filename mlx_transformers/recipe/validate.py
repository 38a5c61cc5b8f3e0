"""Turns resolved tables into typed configs; one error names all problems.

Pydantic finds the problems; here they get the recipe that set the key, the path as the recipe
writes it, the nearest name, and what is allowed in plain words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..core.errors import RecipeError, unknown
from ..core.names import equivalent, nearest
from .config import Config
from .docstrings import description
from .fields import Type, choices, in_words, items
from .keys import elsewhere, kinds_named
from .load import Resolved
from .merge import Table, dotted
from .slot import KINDS
from .toml import toml_value

C = TypeVar("C", bound=Config)
Place = tuple[str | int, ...]

HINTS = 3
"""Most places of a key that a hint names."""

SHOWN = 20
"""Problems that one error lists."""

_OWN_WORDS = {"value_error", "assertion_error"}


def typed(cls: type[C], resolved: Resolved) -> C:
    """Validate a resolved recipe as an instance of `cls`.

    Raises:
        RecipeError: everything that is wrong with it: for each problem the recipe that set the
            key, the path, what was given and what is allowed.
    """
    try:
        return cls.model_validate(resolved.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        all_problems = [_problem(cls, resolved, detail) for detail in details[: 2 * SHOWN]]
    problems = [f"{p.where}: {p.text}" for p in _deduplicated(all_problems)][:SHOWN]
    unlisted = len(details) - max(len(all_problems), SHOWN)
    if len(problems) == 1:
        raise RecipeError(problems[0])
    listed = "\n".join(f"  {problem}" for problem in problems)
    if unlisted > 0:
        raise RecipeError(
            f"More than {len(problems)} problems in {resolved.name}; the first are:\n{listed}"
        )
    raise RecipeError(f"{len(problems)} problems in {resolved.name}:\n{listed}")


@dataclass(frozen=True)
class _Problem:
    place: Place
    where: str
    text: str


@dataclass
class _Walk:
    """Follows the location of a pydantic error through classes and data."""

    types: list[Type]
    value: Any
    place: Place = ()
    owner: type[Config] | None = None
    note: str = ""
    allowed: list[Type] = field(default_factory=list)

    def step(self, part: str | int) -> None:
        """Follow one part of the location; a slot's tag or a union's choice is skipped."""
        if len(self.types) > 1:
            labelled = [of for of in self.types if str(part).startswith(of.label)]
            if labelled or not _holds(self.value, part):
                self.types = labelled[:1]
                return
        of = self.types[0] if self.types else Type(Any)
        if of.slot is not None:
            self.types = [Type(KINDS[of.slot][str(part)])]
            return
        self.place = (*self.place, part)
        self.owner = of.config
        if of.config is not None:
            info = of.config.model_fields.get(str(part))
            self.types = choices(info) if info is not None else []
            self.note = description(of.config, str(part)) if info is not None else ""
        else:
            self.types = items(of)
        self.allowed = self.types
        try:
            self.value = self.value[part]
        except (KeyError, IndexError, TypeError):
            self.value = None


def _holds(value: object, part: str | int) -> bool:
    return part in value if isinstance(value, dict) else isinstance(part, int)


def _problem(root: type[Config], resolved: Resolved, detail: ErrorDetails) -> _Problem:
    walk = _Walk([Type(root)], resolved.data)
    for part in detail["loc"]:
        walk.step(part)
    text = _text(root, walk, detail, resolved.data)
    where = _where_named(resolved, walk, text) if detail["type"] in _OWN_WORDS else None
    return _Problem(walk.place, where or _where(resolved, walk.place), text)


def _text(root: type[Config], walk: _Walk, detail: ErrorDetails, data: Table) -> str:
    path, kind = _path(walk.place), detail["type"]
    if kind == "missing":
        note = f" ({walk.note.rstrip('.')})" if walk.note else ""
        return f"{_table(walk)} lacks '{walk.place[-1]}'{note}: {in_words(walk.allowed)}."
    if kind == "extra_forbidden":
        return _unknown_key(root, walk, data)
    if kind == "union_tag_not_found":
        hint = " A 'from' can't stand in a list." if "from" in (walk.value or ()) else ""
        return f"[{path}] has no kind.{hint} Kinds of {_slot(walk)}: {', '.join(_kinds(walk))}."
    if kind == "union_tag_invalid":
        given = str(detail.get("ctx", {}).get("tag"))
        return f"{path}.kind: {unknown(f'{_slot(walk)} kind', given, _kinds(walk))}"
    if kind in _OWN_WORDS:
        message = detail["msg"].split(", ", 1)[-1]
        return f"[{path}]: {message}" if path else message
    given = _given(detail["input"])
    near = _near_choice(walk.allowed, detail["input"]) or _near_value(root, walk, data)
    return f"{path} must be {in_words(walk.allowed)}, not {given}.{near}"


def _unknown_key(root: type[Config], walk: _Walk, data: Table) -> str:
    keys = list(walk.owner.model_fields) if walk.owner is not None else []
    key = str(walk.place[-1])
    others = elsewhere(root, _path(walk.place), data, values=not isinstance(walk.value, dict))
    surely = [equivalent(key, keys)], others.same(key), kinds_named(root, key)
    meant = *surely, [nearest(key, keys)], others.alike(key)
    hint = _did_you_mean(next((names for names in meant if any(names)), []))
    return (
        f"{_table(walk)} has no key '{key}' (given {_given(walk.value)}).{hint} "
        f"Allowed: {', '.join(keys)}."
    )


def _did_you_mean(names: Sequence[str | None]) -> str:
    listed = " or ".join(f"'{name}'" for name in names[:HINTS])
    return f" Did you mean {listed}?" if listed else ""


def _near_choice(types: list[Type], given: Any) -> str:
    literals = [arg for of in types if of.label == "literal" for arg in of.of.__args__]
    match = nearest(given, [x for x in literals if isinstance(x, str)]) if _is_str(given) else None
    return f" Did you mean '{match}'?" if match else ""


def _near_value(root: type[Config], walk: _Walk, data: Table) -> str:
    """Name the key that is meant where a value was given to a table of another library's name."""
    if (
        isinstance(walk.value, dict)
        or not walk.place
        or any(of.slot is None for of in walk.allowed)
    ):
        return ""
    others = elsewhere(root, _path(walk.place), data, values=True)
    return _did_you_mean(others.same(str(walk.place[-1])))


def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _slot(walk: _Walk) -> str:
    return next((of.slot for of in walk.types if of.slot is not None), "table")


def _kinds(walk: _Walk) -> list[str]:
    return [kind for of in walk.types if of.slot is not None for kind in KINDS[of.slot]]


def _table(walk: _Walk) -> str:
    """Heading of the table that holds the key."""
    path = _path(walk.place[:-1])
    if not path:
        return "The recipe"
    kind = walk.owner.model_fields.get("kind") if walk.owner is not None else None
    return f"[{path}]" if kind is None or not kind.default else f"[{path}] ({kind.default})"


def _given(value: object) -> str:
    if isinstance(value, dict) and value:
        return f"a table with {', '.join(value)}"
    try:
        text = toml_value(value)
    except TypeError:
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _path(place: Place) -> str:
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += ("." if path else "") + dotted((part,))
    return path


def _where(resolved: Resolved, place: Place) -> str:
    """Find the recipe that set a key, or that last set a key of the table around it."""
    names = [str(part) for part in place if isinstance(part, str)]
    for depth in range(len(names), 0, -1):
        prefix = dotted(tuple(names[:depth]))
        if prefix in resolved.origin:
            return resolved.origin[prefix]
        inside = [w for path, w in resolved.origin.items() if path.startswith(f"{prefix}.")]
        if inside:
            return resolved.origin.get(f"{prefix}.kind", inside[0])
    return resolved.files[-1].name if resolved.files else resolved.name


def _where_named(resolved: Resolved, walk: _Walk, text: str) -> str | None:
    """Find where a key was set that the error of a table names, first of all by an option."""
    keys = walk.value if isinstance(walk.value, dict) else ()
    paths = [path for key in keys if (path := _path((*walk.place, key))) in resolved.origin]
    found = [resolved.origin[p] for p in paths if re.search(rf"\b{re.escape(p)}\b", text)]
    return next((where for where in found if where.startswith("--")), next(iter(found), None))


def _deduplicated(found: list[_Problem]) -> list[_Problem]:
    """One problem for each path: the deepest of a union's choices, and what a block inherits
    from `[X.block]` only there."""
    problem_at: dict[Place, _Problem] = {}
    for problem in found:
        problem_at.setdefault(problem.place, problem)
    paths = list(problem_at)
    for place in paths:
        beneath = any(len(p) > len(place) and p[: len(place)] == place for p in paths)
        if beneath or any(_is_copy(problem_at, place, n) for n, part in enumerate(place)):
            problem_at.pop(place, None)
    return list(problem_at.values())


def _is_copy(kept: dict[Place, _Problem], place: Place, at: int) -> bool:
    if place[at] != "blocks" or place not in kept:
        return False
    original = kept.get((*place[:at], "block", *place[at + 2 :]))
    return original is not None and original.where == kept[place].where
