"""Rows of weight maps: pairs of tensor names, and operations on lists of rows.

`Row("stack.blocks.{i}.mixer.q", "model.layers.{i}.self_attn.q_proj")` pairs our name with the
published one. `{i}` is the number of a layer, `{e}` of an expert. A name is that of a tensor or of
a module; a module stands for its `weight` and its `bias`, as far as our model has them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from .transforms import Same, Transform

AS_IT_IS: Transform = Same()
BLOCK = "stack.blocks.{i}"
"""Our name of layer i."""
Names = str | tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One or several of our names, the published names, and the transform between them."""

    ours: Names
    theirs: Names
    via: Transform = AS_IT_IS
    experts: int = 0
    """Number of tensors that a name with `{e}` stands for."""


def rows(ours: str, theirs: str, via: Transform = AS_IT_IS, experts: int = 0) -> list[Row]:
    """Return rows whose names differ in one `{a,b,c}`, paired in order.

    `rows("x.{q,k}", "y.{q,k}_proj")` is `Row("x.q", "y.q_proj")` and `Row("x.k", "y.k_proj")`.
    """
    pairs = zip(_choices(ours), _choices(theirs), strict=True)
    return [Row(our_name, their_name, via, experts) for our_name, their_name in pairs]


def under(table: Iterable[Row], ours: str, theirs: str) -> list[Row]:
    """Return rows with the prefixes `ours` and `theirs` added to their names; empty adds none."""
    our_prefix, their_prefix = (prefix and f"{prefix}." for prefix in (ours, theirs))
    return [
        replace(
            row,
            ours=_each(row.ours, lambda name: our_prefix + name),
            theirs=_each(row.theirs, lambda name: their_prefix + name),
        )
        for row in table
    ]


def at_layers(table: Iterable[Row], layers: Iterable[int]) -> list[Row]:
    """Return rows of `{i}` written out for some layers, which go before those of all layers."""

    def at(names: Names, layer: int) -> Names:
        return _each(names, lambda name: name.replace("{i}", str(layer)))

    rows = list(table)
    return [
        replace(row, ours=at(row.ours, layer), theirs=at(row.theirs, layer))
        for layer in layers
        for row in rows
    ]


def within(table: Iterable[Row], ours: str) -> list[Row]:
    """Return the rows of our module `ours` and of the modules in it."""
    return [row for row in table if _is_within(as_tuple(row.ours)[0], ours)]


def without(table: Iterable[Row], *ours: Names) -> list[Row]:
    """Return the rows that belong to none of our modules `ours`."""
    left_out = [name for names in ours for name in as_tuple(names)]
    return [
        row
        for row in table
        if not any(_is_within(as_tuple(row.ours)[0], name) for name in left_out)
    ]


def moved(
    table: Iterable[Row], ours: tuple[str, str], theirs: tuple[str, str] = ("", "")
) -> list[Row]:
    """Return the rows of our module `ours[0]` as those of a module `ours[1]`.

    Args:
        table: the rows.
        ours: our old and new prefix; the new one may be empty.
        theirs: the published old and new prefix; two empty ones keep the names.
    """
    return [
        replace(
            row,
            ours=_each(row.ours, lambda name: _reroot(name, *ours)),
            theirs=_each(row.theirs, lambda name: name.replace(*theirs, 1)),
        )
        for row in within(table, ours[0])
    ]


def as_tuple(names: Names) -> tuple[str, ...]:
    """Return one or several names as a tuple."""
    return (names,) if isinstance(names, str) else names


def _is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _reroot(name: str, old: str, new: str) -> str:
    rest = name.removeprefix(old)
    return f"{new}{rest}" if new else rest.removeprefix(".")


def _each(names: Names, change: Callable[[str], str]) -> Names:
    return change(names) if isinstance(names, str) else tuple(change(name) for name in names)


def _choices(name: str) -> list[str]:
    match = re.search(r"\{([^{}]*,[^{}]*)\}", name)
    if match is None:
        return [name]
    return [name[: match.start()] + c + name[match.end() :] for c in match[1].split(",")]
