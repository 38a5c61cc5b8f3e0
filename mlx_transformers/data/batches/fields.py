"""Checks of the named fields of records, with errors that name file and line."""

from collections.abc import Sequence

from ...core.errors import DataError, nearest
from ..pieces import Piece, Record


def with_words(piece: Piece, kind: str, keys: Sequence[str], words: Sequence[str]) -> Piece:
    """Return a record whose text is that of its fields `words`, after checking that it has `keys`.

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
            raise DataError(
                f"{piece.where}: no field '{key}' in the record, which has {have}.{hint} The keys "
                "in data.batch name the right ones."
            )
    text = "\n".join(string(piece.record, key, piece.where) for key in words)
    return Piece(text, True, piece.where, None, piece.record, piece.group)


def string(record: Record, key: str, where: str = "a record") -> str:
    """Return a field that has to be text.

    Raises:
        DataError: it is something else.
    """
    value = record[key]
    if not isinstance(value, str):
        raise DataError(f"{where}: the field '{key}' is no text but {value!r:.60}.")
    return value
