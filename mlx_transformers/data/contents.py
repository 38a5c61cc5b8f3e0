"""The bytes of one picture or sound."""

from pathlib import Path

from ..core.errors import DataError, FormatError, reason
from ..core.parse import MIB, Limits, read_bytes

LARGEST = Limits(size=2048 * MIB, depth=0)
"""The largest file that is read whole."""


def contents(source: Path | bytes, name: str) -> bytes:
    """Return the bytes of a file, or those given.

    Args:
        source: the file, or its bytes.
        name: its name in messages.

    Raises:
        DataError: the file is missing, empty, too large, or no file, such as a device.
    """
    try:
        data = source if isinstance(source, bytes) else read_bytes(source, LARGEST)
    except FormatError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"{name} can't be read: {reason(error)}.") from None
    if not data:
        raise DataError(f"{name} is an empty file: write it again.")
    return data
