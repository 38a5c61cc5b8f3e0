"""The picture in a field of a record: an array, a row of numbers, or the path of a file."""

import numpy as np

from ...core.errors import DataError
from ..pieces import Piece, RowError
from .preprocess import read_resized
from .read import Channels
from .resize import resize

LEVELS = 256
"""Values of a pixel's number."""

Size = tuple[int, int, Channels]
"""Height, width and channels."""


def picture(value: object, size: Size, key: str, piece: Piece) -> np.ndarray:
    """Return the picture `uint8 [height, width, channels]` in the field `key` of a record.

    A file, and the array of a built-in corpus, is resized whatever its ratio; the path of a file is
    relative to that of the record.

    Raises:
        RowError: the field is none of them, or the picture can't be read or has another size.
    """
    where = piece.where or "A record"
    if isinstance(value, np.ndarray):
        pixels = resize(value, *size[:2])
    elif isinstance(value, str) and value[:1].isdigit() and " " in value:
        pixels = np.array(numbers(value, where), np.uint8)
        if pixels.size == size[0] * size[1] * size[2]:
            pixels = pixels.reshape(size)
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
            "file, or text of numbers from 0 to 255, row by row."
        )
    if pixels.shape != size:
        have = " x ".join(map(str, pixels.shape))
        want = " x ".join(map(str, size))
        raise RowError(
            f"{where}: the picture has {have} numbers, and data.batch.size and channels ask for "
            f"{want}: set them to those of the data."
        )
    return pixels


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
