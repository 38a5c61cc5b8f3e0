"""Checks of the named fields of records, with errors that name file and line."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...core.errors import DataError
from ...core.names import nearest
from ..pieces import Piece, Record, RowError

LARGEST = float(np.finfo(np.float32).max)
"""The largest number of float32."""


def with_words(
    piece: Piece,
    kind: str,
    keys: Sequence[str],
    words: Sequence[str],
    read: Callable[[Record, str, str], str] | None = None,
) -> Piece:
    """Return a record whose text is that of its fields `words`, after checking that it has `keys`;
    `read` reads a field, by default as a `string`.

    Raises:
        DataError: the source holds running text, or a field is missing or not a string.
    """
    if piece.record is None:
        raise DataError(
            f"{piece.where or 'The text'}: data.batch.kind = '{kind}' is made of records with the "
            f"fields {', '.join(keys)}, and this is running text. Give a .jsonl or .tsv file, or a "
            "corpus of records (mlxt data list)."
        )
    for key in keys:
        if key not in piece.record:
            have = ", ".join(piece.record)
            match = nearest(key, piece.record)
            hint = f" Did you mean '{match}'?" if match else ""
            raise RowError(
                f"{piece.where}: no field '{key}' in the record, which has {have}.{hint} The keys "
                "in data.batch name the right ones."
            )
    text = "\n".join((read or string)(piece.record, key, piece.where) for key in words)
    return replace(piece, text=text)


def string(record: Record, key: str, where: str = "a record") -> str:
    """Return a field that has to be text.

    Raises:
        DataError: it is something else.
    """
    value = record[key]
    if not isinstance(value, str):
        what = "null" if value is None else f"{value!r:.60}"
        raise RowError(f"{where}: the field '{key}' is no text but {what}.")
    return value


def is_number(value: object) -> bool:
    """Whether a value is a number that float32 has, so neither NaN nor infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST


def label(value: object, key: str, where: str = "a record") -> str | int:
    """Return a label: text, a whole number, or true or false as text.

    Raises:
        RowError: it is something else.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str | int):
        return value
    what = "null" if value is None else f"{value!r:.60}"
    raise RowError(
        f"{where}: the label in the field '{key}' is {what}. A label is text, a whole number, or "
        "true or false."
    )
