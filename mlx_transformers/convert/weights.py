"""Weight maps: tables of rows (`rows.py`) that translate tensors in both directions.

Our model decides which rows apply: a bias that it lacks is not looked for, and is an unknown
tensor if the file has it. A parameter of ours without a row (a LoRA matrix, the scales of a
quantized one) is an error: it would be lost.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import mlx.core as mx

from ..core.errors import ConvertError
from ..core.names import nearest
from .rows import Row, as_tuple
from .transforms import Transform

T = TypeVar("T")
SHOWN = 8
"""Tensors named per fault."""


@dataclass(frozen=True)
class Move:
    """A row applied to one layer and one expert: full names on both sides."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    via: Transform


def moves(table: Sequence[Row], names: Iterable[str]) -> Iterator[Move]:
    """Yield the rows that apply to a model with parameters `names`.

    Raises:
        ConvertError: a parameter has no row, or only some of those that are packed together exist.
    """
    compiled = [(row, _pattern(as_tuple(row.ours)[0])) for row in table]
    later = {p for row in table for p in as_tuple(row.ours)[1:]}
    followers = [_pattern(pattern) for pattern in later]
    have = list(names)
    names_set, done = set(have), set[str]()
    for name in have:
        matches = [(row, match) for row, regex in compiled if (match := regex.fullmatch(name))]
        if not matches:
            if any(regex.fullmatch(name) for regex in followers):
                continue
            raise _no_row(name, compiled)
        move = _move(*matches[0])
        if absent := [n for n in move.ours if n not in names_set]:
            raise ConvertError(f"{move.theirs[0]} holds '{absent[0]}', which our model lacks.")
        done.update(move.ours)
        yield move
    if lost := names_set - done:
        raise _no_row(min(lost), compiled)


def to_ours(
    table: Sequence[Row],
    shapes: Mapping[str, Sequence[int]],
    theirs: Mapping[str, mx.array],
    *,
    where: str = "The file",
    spare: Sequence[str] = (),
    tied: Mapping[str, str] | None = None,
) -> dict[str, mx.array]:
    """Return published tensors as the parameters of a model of given shapes, in float32.

    Args:
        table: the weight map.
        shapes: the shape of every parameter of our model, by dotted name.
        theirs: the tensors of the file.
        where: how to call the file in a sentence.
        spare: regular expressions of tensors that may be left over.
        tied: regular expressions of second names of tensors, which must hold the same numbers as
            the first.

    Raises:
        ConvertError: tensors are missing, unknown, or of another shape; all are named.
    """
    out: dict[str, mx.array] = {}
    used: set[str] = set()
    missing: list[str] = []
    wrong: list[str] = []
    for move in moves(table, shapes):
        if absent := [name for name in move.theirs if name not in theirs]:
            missing += absent
            continue
        used.update(move.theirs)
        _refuse_integers(where, {name: theirs[name] for name in move.theirs})
        try:
            published = [theirs[name].astype(mx.float32) for name in move.theirs]
            arrays = move.via.load(published)
        except ValueError:
            arrays = [theirs[name] for name in move.theirs][: len(move.ours)]
        for name, array in zip(move.ours, arrays, strict=False):
            if tuple(array.shape) != tuple(shapes[name]):
                given_shapes = [list(theirs[n].shape) for n in move.theirs[:1]]
                wrong.append(
                    f"{move.theirs[0]} {given_shapes[0]} gives {name} {list(array.shape)}, "
                    f"which has to be {list(shapes[name])}"
                )
            out[name] = array
    unused = [name for name, array in theirs.items() if name not in used and array.size]
    unused = [name for name in unused if not any(re.search(p, name) for p in spare)]
    unused = [name for name in unused if not _is_copy(name, theirs, tied or {})]
    _refuse(where, missing, unused, wrong)
    return out


def to_theirs(table: Sequence[Row], ours: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Return our parameters under published names and layouts: the inverse of `to_ours`.

    Raises:
        ConvertError: a parameter has no row.
    """
    out: dict[str, mx.array] = {}
    for move in moves(table, ours):
        arrays = move.via.save([ours[name] for name in move.ours])
        out.update(zip(move.theirs, arrays, strict=True))
    return out


def renamed(
    theirs: Mapping[str, T], renames: Sequence[tuple[str, str]], dropped: Sequence[str]
) -> dict[str, T]:
    """Return the tensors of a published file under the names that transformers saves today.

    Args:
        theirs: the tensors of the file.
        renames: regular expressions and what replaces them, one after the other.
        dropped: regular expressions of buffers to leave out.

    Raises:
        ConvertError: two tensors would get one name.
    """
    out: dict[str, T] = {}
    for name, array in theirs.items():
        new = name
        for pattern, replacement in renames:
            new = re.sub(pattern, replacement, new)
        if any(re.search(pattern, new) for pattern in dropped):
            continue
        if new in out:
            raise ConvertError(f"Two tensors of the file are '{new}': '{name}' is one of them.")
        out[new] = array
    return out


def _refuse_integers(where: str, tensors: Mapping[str, mx.array]) -> None:
    for name, array in tensors.items():
        if not mx.issubdtype(array.dtype, mx.floating):
            dtype = str(array.dtype).removeprefix("mlx.core.")
            raise ConvertError(
                f"{where}: the tensor {name} is {dtype}, and weights are floats. Integers need "
                "scales that say what they stand for: take the unquantized model."
            )


def _is_copy(name: str, theirs: Mapping[str, mx.array], tied: Mapping[str, str]) -> bool:
    first = next((first for second, first in tied.items() if re.fullmatch(second, name)), "")
    if first not in theirs:
        return False
    if theirs[first].shape != theirs[name].shape or not mx.array_equal(theirs[first], theirs[name]):
        raise ConvertError(
            f"'{name}' has to be a copy of '{first}', but the file holds other numbers there. If "
            "config.json ties a head that is meant to be another, set tie_word_embeddings to false "
            "in a copy of it."
        )
    return True


def _refuse(where: str, missing: list[str], unused: list[str], wrong: list[str]) -> None:
    hints = [
        f" ('{name}' may be what is called '{match}' there)"
        for name in missing[:1]
        if (match := nearest(name, unused))
    ]
    faults = [
        _fault("lacks", missing) + "".join(hints) if missing else "",
        _fault("holds tensors that this model doesn't use:", unused),
        _fault("has tensors of other shapes:", wrong),
    ]
    if problems := [fault for fault in faults if fault]:
        raise ConvertError(f"{where} {'; it '.join(problems)}.")


def _fault(sentence: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{sentence} {', '.join(names[:SHOWN])}{more}"


def _no_row(name: str, table: list[tuple[Row, re.Pattern[str]]]) -> ConvertError:
    """Return the error for a parameter without a row; of a known module it is an addition."""
    module, _, leaf = name.rpartition(".")
    if any(regex.fullmatch(f"{module}.weight") for _, regex in table):
        return ConvertError(
            f"'{module}' holds '{leaf}' beside its weight: an adapter, or a quantized matrix. A "
            "plain model has no place for it. Fuse the adapter or dequantize the model first."
        )
    return ConvertError(f"The weight map of this family has no row for our '{name}'.")


def _pattern(ours: str) -> re.Pattern[str]:
    """Return a pattern of the parameter `ours`, or of the weight and bias of a module `ours`."""
    text = re.escape(ours).replace(r"\{i\}", r"(?P<i>\d+)", 1).replace(r"\{i\}", "(?P=i)")
    return re.compile(text + r"(?P<leaf>\.(weight|bias))?")


def _move(row: Row, match: re.Match[str]) -> Move:
    groups: dict[str, Any] = match.groupdict()
    leaf = groups["leaf"] or ""

    def full(pattern: str) -> list[str]:
        name = pattern.replace("{i}", groups.get("i") or "") + leaf
        if "{e}" not in name:
            return [name]
        return [name.replace("{e}", str(e)) for e in range(row.experts)]

    ours = tuple(name for pattern in as_tuple(row.ours) for name in full(pattern))
    theirs = tuple(name for pattern in as_tuple(row.theirs) for name in full(pattern))
    return Move(ours, theirs, row.via)
