"""Reader of GGUF files: header, metadata and tensors, every number checked before it is used.

Format: ggml, `docs/gguf.md`. Counts, lengths, types, shapes, offsets, alignment and overlaps come
from the file and are not trusted: each is compared with the size of the file first.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..core.errors import ConvertError
from .gguf_blocks import packed as packed_blocks
from .gguf_types import TYPES, Bytes, TensorType
from .packed import PackedTensor

Metadata = dict[str, Any]
MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_AXES, MAX_AXIS = 4, 2**31
MAX_ALIGNMENT = 1 << 16
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""Number types of metadata, as `struct` spells them."""
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class Entry:
    """A tensor in a file.

    Attributes:
        type: its type.
        shape: its shape, rows first.
        start: of its bytes in the file.
        nbytes: number of its bytes.
    """

    type: TensorType
    shape: tuple[int, ...]
    start: int
    nbytes: int


class Cursor:
    """A position in bytes that never leaves them.

    Attributes:
        data: the bytes.
        at: the position.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def number(self, code: str) -> Any:
        """Read a number by its `struct` code.

        Raises:
            ValueError: the file ends before.
        """
        start = self.advance(struct.calcsize(code))
        return struct.unpack_from(f"<{code}", self.data, start)[0]

    def string(self) -> str:
        """Read a string; bytes that aren't UTF-8 are replaced.

        Raises:
            ValueError: the file ends before.
        """
        size = self.number("Q")
        start = self.advance(size)
        return self.data[start : start + size].decode("utf-8", "replace")

    def advance(self, size: int) -> int:
        """Skip `size` bytes and return where they began.

        Raises:
            ValueError: the file ends before.
        """
        start = self.at
        if size > len(self.data) - start:
            raise ValueError(f"it ends before the {size:,} bytes that byte {start:,} announces")
        self.at += size
        return start


def read_file(
    path: Path, packed: bool = False
) -> tuple[Metadata, dict[str, mx.array], dict[str, PackedTensor]]:
    """Read the metadata and the tensors of a file.

    Args:
        path: the file.
        packed: whether quantized tensors are read as packed integers, too.

    Returns:
        The metadata; the tensors by name, quantized ones decoded to float32; if `packed`, those of
        them that MLX's packed integers hold exactly.

    Raises:
        ConvertError: it is damaged, or has a type of tensor that isn't decoded here.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            metadata, entries = parse(data)
            unread = {n: e.type.name for n, e in entries.items() if not e.type.readable}
            if unread:
                name, kind = next(iter(unread.items()))
                readable = ", ".join(t.name for t in TYPES.values() if t.readable)
                raise ConvertError(
                    f"{path}: {len(unread)} tensors, '{name}' for one, are of the type {kind}, "
                    f"which isn't decoded here; {readable} are. Download or convert a file with "
                    "one of these."
                )
            tensors = {name: _array(data, entry) for name, entry in entries.items()}
            found = {n: _packed(data, entry) for n, entry in entries.items()} if packed else {}
            return metadata, tensors, {name: t for name, t in found.items() if t is not None}
    except OSError as error:
        raise ConvertError(f"{path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        if isinstance(error, ConvertError):
            raise
        raise ConvertError(f"{path} is not a whole GGUF file: {error}.") from error


def parse(data: bytes | mmap.mmap) -> tuple[Metadata, dict[str, Entry]]:
    """Return the metadata of a file, and where its tensors are.

    Raises:
        ValueError: the bytes contradict the format, or themselves.
    """
    cursor = Cursor(data)
    if data[:4] != MAGIC:
        raise ValueError("it doesn't begin with 'GGUF'")
    cursor.advance(4)
    if (version := cursor.number("I")) not in VERSIONS:
        raise ValueError(f"its version is {version}; 2 and 3 are read, little-endian")
    n_tensors, n_keys = cursor.number("Q"), cursor.number("Q")
    if max(n_tensors, n_keys) > len(data) // 8:
        raise ValueError(f"it announces {n_tensors:,} tensors and {n_keys:,} keys")
    metadata: Metadata = {}
    for _ in range(n_keys):
        key = cursor.string()
        metadata[key] = _value(cursor, cursor.number("I"))
    headers: dict[str, tuple[TensorType, tuple[int, ...], int]] = {}
    for _ in range(n_tensors):
        name = cursor.string()
        if name in headers:
            raise ValueError(f"two tensors are called {name!r}")
        headers[name] = _header(cursor, name)
    return metadata, _placed(headers, metadata, cursor.at, len(data))


def _value(cursor: Cursor, kind: int, nested: bool = False) -> Any:
    if kind == STRING:
        return cursor.string()
    if kind in SCALARS:
        return cursor.number(SCALARS[kind])
    if kind != ARRAY or nested:
        raise ValueError(f"a key has a value of the type {kind}")
    inner, count = cursor.number("I"), cursor.number("Q")
    if inner in SCALARS:
        code = SCALARS[inner]
        start = cursor.advance(count * struct.calcsize(code))
        return np.frombuffer(cursor.data, np.dtype(code).newbyteorder("<"), count, start).tolist()
    if count > len(cursor.data) // 8:
        raise ValueError(f"it announces an array of {count:,} values")
    return [_value(cursor, inner, nested=True) for _ in range(count)]


def _header(cursor: Cursor, name: str) -> tuple[TensorType, tuple[int, ...], int]:
    axes = cursor.number("I")
    if not 1 <= axes <= MAX_AXES:
        raise ValueError(f"the tensor {name!r} has {axes} axes")
    sizes = [cursor.number("Q") for _ in range(axes)]
    number, offset = cursor.number("I"), cursor.number("Q")
    if number not in TYPES:
        raise ValueError(f"the tensor {name!r} is of the unknown type {number}")
    if max(sizes) >= MAX_AXIS:
        raise ValueError(f"the tensor {name!r} has an axis of {max(sizes):,}")
    if sizes[0] % TYPES[number].block:
        raise ValueError(f"a row of the tensor {name!r} isn't a whole number of blocks")
    return TYPES[number], tuple(reversed(sizes)), offset


def _placed(
    headers: Mapping[str, tuple[TensorType, tuple[int, ...], int]],
    metadata: Metadata,
    end: int,
    size: int,
) -> dict[str, Entry]:
    alignment = metadata.get("general.alignment", 32)
    if alignment not in {1 << i for i in range(3, MAX_ALIGNMENT.bit_length())}:
        raise ValueError(f"its alignment is {alignment!r}")
    base = -(-end // alignment) * alignment
    found: dict[str, Entry] = {}
    for name, (kind, shape, offset) in headers.items():
        nbytes = math.prod(shape) // kind.block * kind.size
        if offset % alignment or base + offset + nbytes > size:
            raise ValueError(f"the tensor {name!r} lies outside of the file, or not on its grid")
        found[name] = Entry(kind, shape, base + offset, nbytes)
    previous = 0
    for name, entry in sorted(found.items(), key=lambda item: item[1].start):
        if entry.start < previous:
            raise ValueError(f"the tensor {name!r} overlaps another")
        previous = entry.start + entry.nbytes
    return found


def _packed(data: mmap.mmap, entry: Entry) -> PackedTensor | None:
    blocks = _bytes(data, entry).reshape(-1, entry.type.size)
    return packed_blocks(entry.type.name, blocks, entry.shape)


def _bytes(data: mmap.mmap, entry: Entry) -> Bytes:
    return np.frombuffer(data, np.uint8, entry.nbytes, entry.start).copy()


def _array(data: mmap.mmap, entry: Entry) -> mx.array:
    content = _bytes(data, entry)
    if entry.type.decode is not None:
        blocks = content.reshape(-1, entry.type.size)
        return mx.array(entry.type.decode(blocks).reshape(entry.shape))
    if entry.type.dtype == "bfloat16":
        return mx.array(content.view(np.uint16).reshape(entry.shape)).view(mx.bfloat16)
    return mx.array(content.view(entry.type.dtype).reshape(entry.shape))
