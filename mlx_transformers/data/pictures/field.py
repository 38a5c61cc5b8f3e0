"""The picture in a field of a record: an array, numbers, or the path of a file."""

import re

import numpy as np

from ...core.errors import DataError
from ..pieces import Piece, RowError
from .preprocess import read_resized
from .read import Channels
from .resize import resize

LEVELS = 256
"""Values of a pixel's number."""
NUMBERS = re.compile(r"[-+.,\d]+\s[-+.,\d\s]*")
"""Text that is meant as a picture's numbers, even if they are wrong, and not as a path."""

Size = tuple[int, int, Channels]
"""Height, width and channels."""


def picture(value: object, size: Size, key: str, piece: Piece) -> np.ndarray:
    """Return the picture `uint8 [height, width, channels]` in the field `key` of a record.

    A file, and the array of a built-in corpus, is resized whatever its ratio; the path of a file is
    relative to that of the record. Numbers are text with spaces, one list, or nested lists
    `[height][width]` or `[height][width][channels]`.

    Raises:
        RowError: the field is none of them, or the picture can't be read or has another size.
    """
    where = piece.where or "A record"
    if isinstance(value, np.ndarray):
        pixels = resize(value, *size[:2])
    elif isinstance(value, str) and NUMBERS.fullmatch(value):
        pixels = _in_rows(np.array(numbers(value, where), np.uint8), size)
    elif isinstance(value, list):
        pixels = _in_rows(_levels(value, where, key), size)
    elif isinstance(value, str) and value:
        path = piece.path(value)
        try:
            return read_resized(path, size[:2], size[2], f"{where}: {path}")
        except DataError as error:
            raise RowError(str(error)) from None
    else:
        what = "null" if value is None else f"{value!r:.60}"
        raise RowError(
            f"{where}: the field '{key}' holds no picture but {what}. A picture is the path of a "
            "file, or numbers from 0 to 255, row by row, as text or as a list."
        )
    if pixels.shape != size:
        have = " x ".join(map(str, pixels.shape))
        want = " x ".join(map(str, size))
        raise RowError(
            f"{where}: the picture has {have} numbers, and data.batch.size and channels ask for "
            f"{want}: set them to those of the data."
        )
    return pixels


def _in_rows(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Numbers in a row, or grey levels in rows, as a picture, if they are as many as it has."""
    in_rows = pixels.ndim == 1 or pixels.shape == size[:2]
    return pixels.reshape(size) if in_rows and pixels.size == np.prod(size) else pixels


def _levels(value: list[object], where: str, key: str) -> np.ndarray:
    """The numbers of a list, or of lists in it.

    Raises:
        RowError: it holds something else, such as the paths of several pictures.
    """
    try:
        found = np.array(value)
    except ValueError:  # rows of different lengths
        found = np.array("")
    if found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= LEVELS:
        raise RowError(
            f"{where}: the list in the field '{key}' is no picture, which has whole numbers from 0 "
            "to 255, in rows of one length. Of several pictures each has a record of its own."
        )
    return found.astype(np.uint8)


def numbers(text: str, where: str) -> list[int]:
    """Return the numbers of a picture.

    Raises:
        RowError: a word is no number from 0 to 255.
    """
    levels = text.split()
    for level in levels:
        if not (level.isascii() and level.isdecimal() and int(level) < LEVELS):
            raise RowError(
                f"{where or 'A record'}: '{level[:20]}' is no pixel. A picture is text of whole "
                "numbers from 0 to 255 with a space between two, row by row."
            )
    return [int(level) for level in levels]
