"""Readers of JSON and TOML with limits on size, nesting and numbers.

Files come from users, other tools and crashes, so each problem is a `FormatError` that names the
file, the line and the cause: never a traceback, and never minutes of parsing.
"""

import json
import math
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import FormatError, MlxtError, reason

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The largest document that is parsed.

    Attributes:
        size: bytes (of a string: characters).
        depth: nested tables and lists.
        items: keys and list items, all together.
        integer: largest absolute value of an integer.
    """

    size: int
    depth: int
    items: float = math.inf
    integer: float = math.inf


CONFIG = Limits(size=32 * MIB, depth=64, items=1_000_000)
"""Configurations, indexes and manifests."""
RECIPE = Limits(size=MIB, depth=32, items=20_000, integer=2**63 - 1)
"""Recipes; TOML integers have 64 bits."""
LINE = Limits(size=512 * MIB, depth=64)
"""One line of a data file."""


def parse_json(text: str | bytes, where: str, limits: Limits = CONFIG) -> object:
    """Parse a JSON document.

    Args:
        text: the document; bytes are UTF-8.
        where: the file, and perhaps the line, for errors.
        limits: the largest document accepted.

    Raises:
        FormatError: it is not JSON, not UTF-8, or beyond the limits.
    """
    _check_size(len(text), where, limits)
    if isinstance(text, bytes):
        text = _decoded(text, where)
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise FormatError(f"{where}: not JSON ({error.msg}, {line}column {error.colno}).") from None
    except RecursionError:
        raise FormatError(_too_deep(where, limits)) from None
    except ValueError:
        raise FormatError(f"{where}: an integer has too many digits to be read.") from None
    if limits.items < math.inf or text.count("[") + text.count("{") > limits.depth:
        check_values(value, where, limits)
    return value


def read_json(path: Path) -> object:
    """Parse a JSON file.

    Raises:
        FormatError: as `parse_json`, or it is not a regular file.
        OSError: it can't be read.
    """
    return parse_json(read_bytes(path), str(path))


def read_table(path: Path) -> dict[str, Any]:
    """Parse a JSON file that holds an object.

    Raises:
        FormatError: as `read_json`, or it holds something else.
        OSError: it can't be read.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds {_name(value)} where a JSON object is expected.")
    return value


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Parse a TOML document within the limits of recipes.

    Raises:
        tomllib.TOMLDecodeError: it is not TOML.
        FormatError: it is beyond the limits.
    """
    _check_size(len(text), where, RECIPE)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise FormatError(_too_deep(where, RECIPE)) from None
    except ValueError:
        raise FormatError(f"{where}: an integer has too many digits to be read.") from None
    check_values(table, where, RECIPE)
    return table


def read_bytes(path: Path, limits: Limits = CONFIG) -> bytes:
    """Read a regular file that is not larger than the limits.

    Raises:
        FormatError: it is a folder or a pipe, or larger.
        OSError: it can't be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise FormatError(f"{path} is {what}, not a file.")
    _check_size(status.st_size, str(path), limits)
    return path.read_bytes()


def read_text(path: Path, name: str, error: type[MlxtError] = FormatError) -> str:
    """Read a UTF-8 text with line feeds between its lines, and without a byte order mark.

    Args:
        path: the file; a pipe is read, too.
        name: its name in messages, perhaps with the option that gave it.
        error: the class of the error to raise.

    Raises:
        MlxtError: it can't be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as bad:
        byte = bad.object[bad.start]
        raise error(
            f"{name} is not UTF-8 text (byte 0x{byte:02x} at offset {bad.start}). Convert it "
            "first, for instance with iconv."
        ) from None
    except (OSError, ValueError) as bad:  # a ValueError is of a name with a NUL
        raise error(f"{name} can't be read: {reason(bad)}.") from None


def read_records(
    path: Path, is_record: Callable[[dict[str, Any]], bool] = lambda _: True
) -> tuple[list[dict[str, Any]], list[int]]:
    """Parse a file of JSON objects, one per line, as far as it can be read.

    Lines end at line feeds only: U+2028 and its like are characters of a record.

    Args:
        path: the file.
        is_record: whether an object has the form of a record.

    Returns:
        The records, and the numbers of lines that are none.
    """
    records: list[dict[str, Any]] = []
    unreadable: list[int] = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = parse_json(line, str(path), LINE)
            except FormatError:
                value = None
            if isinstance(value, dict) and is_record(value):
                records.append(value)
            else:
                unreadable.append(number)
    return records, unreadable


def json_line(value: object) -> str:
    """Return a JSON value as one line without its end, readable by any tool that splits lines.

    Characters that some readers take for line ends, and lone surrogates, are escaped.
    """
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text)


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise FormatError(
            f"{where}: not UTF-8 text (byte 0x{byte:02x} at offset {error.start})."
        ) from None


def _check_size(size: int, where: str, limits: Limits) -> None:
    if size > limits.size:
        raise FormatError(
            f"{where} is too large to be read: {size / MIB:,.1f} MiB, and the limit is "
            f"{limits.size // MIB:,} MiB."
        )


def check_values(value: object, where: str, limits: Limits) -> None:
    """Check the depth, the items and the integers of a parsed document.

    Raises:
        FormatError: it is beyond the limits.
    """
    level: list[object] = [value]
    items = 0
    for _ in range(limits.depth):
        inner = [item for container in level for item in _items(container)]
        items += len(inner)
        if items > limits.items:
            raise FormatError(
                f"{where} has more than {limits.items:,.0f} keys and values, the limit."
            )
        if limits.integer < math.inf:
            for item in inner:
                if isinstance(item, int) and abs(item) > limits.integer:
                    raise FormatError(f"{where}: an integer is beyond 64 bits.")
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return
    raise FormatError(_too_deep(where, limits))


def _items(container: object) -> Iterator[object]:
    if isinstance(container, dict):
        yield from container.values()
    elif isinstance(container, list):
        yield from container


def _too_deep(where: str, limits: Limits) -> str:
    return f"{where}: nested more than {limits.depth} deep."


def _name(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
