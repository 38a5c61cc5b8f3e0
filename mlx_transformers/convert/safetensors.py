"""Reader of safetensors files: the header is checked before MLX reads the tensors.

Format: the length of the header (8 bytes, little-endian), the header as JSON (dtype, shape and
offsets of each tensor), then the tensors without gaps. Nothing in it is trusted: lengths, dtypes,
shapes and offsets have to agree with each other and with the size of the file.
"""

import errno
import json
import math
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..core.errors import ConvertError

MAX_HEADER = 100_000_000
"""Bytes of the largest header; the format's own limit."""
POINTER = b"version "
"""How the file begins that stands for another in Git LFS."""
MAX_AXIS = 2**31
"""MLX counts along an axis in 32 bits."""
NUMPY = {
    "BOOL": "?",
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "UI" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    "BF16": "<u2",
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0"), "<u1"),
    "C64": "<c8",
}
"""The numpy dtype of the bytes of each dtype."""
SIZES = {dtype: np.dtype(stored).itemsize for dtype, stored in NUMPY.items()}
"""Bytes per number."""
BY_NUMPY = ("F8_E5M2", "F64")
"""Dtypes that MLX doesn't read."""


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: its dtype, its shape, and its bytes from `start` to `end`."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_file(path: Path) -> dict[str, mx.array]:
    """Read the tensors of a file; those that MLX can read are read when they are used.

    8-bit floats (E4M3, E5M2, and the powers of two E8M0) become bfloat16, which holds them exactly.

    Raises:
        ConvertError: the file is damaged, or has a dtype that isn't known; names it.
    """
    try:
        entries = read_header(path)
        if any(entry.dtype in BY_NUMPY for entry in entries.values()):
            return {name: _by_numpy(path, entry) for name, entry in entries.items()}
        loaded: Any = mx.load(str(path), format="safetensors")
    except OSError as error:
        raise ConvertError(f"{path} can't be read: {error.strerror or error}.") from error
    except (RuntimeError, ValueError) as error:
        if isinstance(error, ConvertError):
            raise
        raise ConvertError(f"{path} is not a whole safetensors file: {error}.") from error
    return {name: _decoded(loaded[name], entry.dtype) for name, entry in entries.items()}


def write_file(path: Path, tensors: Mapping[str, mx.array], made_for: str) -> None:
    """Write tensors to a file.

    Args:
        path: the file.
        tensors: by name.
        made_for: the library that its metadata names: `pt`, or `mlx`.

    Raises:
        OSError: the disk is full, or refuses.
    """
    mx.eval(list(tensors.values()))
    try:
        mx.save_safetensors(str(path), dict(tensors), {"format": made_for})
    except RuntimeError as error:  # MLX doesn't say which
        reason = "the disk is full, or can't be written to"
        raise OSError(errno.EIO, reason, str(path)) from error


def read_header(path: Path) -> dict[str, Entry]:
    """Return where the tensors of a file are.

    Raises:
        ConvertError: the file is a pipe, a device, or a pointer of Git LFS.
        ValueError: the header contradicts the format, itself, or the size of the file.
        OSError: the file can't be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise ConvertError(
            f"{path} is a pipe or device, not a file. Put the safetensors file itself there."
        )
    size = status.st_size
    with open(path, "rb") as file:
        start = file.read(8)
        if start == POINTER:
            raise ConvertError(
                f"{path} is a pointer of Git LFS, not the weights: run `git lfs pull` in "
                f"{path.parent}, or download the file itself."
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER):
            raise ValueError(f"its header has {length:,} bytes and the file {size:,}")
        header = file.read(length)
    return parse_header(header, size - 8 - length)


def parse_header(header: bytes, size: int) -> dict[str, Entry]:
    """Return the tensors that a header describes.

    Args:
        header: the JSON.
        size: number of bytes behind it.

    Raises:
        ValueError: it contradicts the format, itself, or the size.
    """
    try:
        table = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("its header is nested too deep") from None
    if not isinstance(table, dict):
        raise ValueError("its header is not a JSON object")
    table.pop("__metadata__", None)
    entries = {name: _entry(name, value) for name, value in table.items()}
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != at:
            raise ValueError(f"the tensor {name!r} overlaps another, or leaves a gap")
        at = entry.end
    if at != size:
        raise ValueError(f"its tensors need {at:,} bytes, and it has {size:,}")
    return entries


def _entry(name: str, value: object) -> Entry:
    if not isinstance(value, Mapping) or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise ValueError(f"the tensor {name!r} has no dtype, shape or offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise ValueError(f"the tensor {name!r} is of the unknown dtype {str(dtype)[:40]!r}")
    if not _counts(shape, MAX_AXIS) or not _counts(offsets, 2**63) or len(offsets) != 2:
        raise ValueError(
            f"the tensor {name!r} has a shape or offsets that aren't whole numbers below 2^31"
        )
    if offsets[1] - offsets[0] != math.prod(shape) * SIZES[dtype]:
        raise ValueError(f"the tensor {name!r} of the shape {shape} isn't as long as its offsets")
    return Entry(dtype, tuple(shape), offsets[0], offsets[1])


def _counts(value: object, limit: int) -> bool:
    """Whether a value is a list of sizes below `limit`."""
    return isinstance(value, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < limit for n in value
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("two entries of its header have the same name")
    return table


def _decoded(array: mx.array, dtype: str) -> mx.array:
    """Return an array as MLX read it, with 8-bit floats as numbers."""
    if dtype == "F8_E4M3":
        return mx.from_fp8(array, mx.bfloat16)
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (array.astype(mx.uint16) << 8).view(mx.float16).astype(mx.bfloat16)
    if dtype == "F8_E8M0":
        return mx.power(2.0, array.astype(mx.float32) - 127).astype(mx.bfloat16)
    return array


def _by_numpy(path: Path, entry: Entry) -> mx.array:
    """Return a tensor of a file that MLX doesn't read as a whole."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        file.seek(8 + length + entry.start)
        content = np.frombuffer(file.read(entry.end - entry.start), NUMPY[entry.dtype])
    if entry.dtype == "F64":
        content = content.astype(np.float32)
    array = mx.array(content.reshape(entry.shape))
    return array.view(mx.bfloat16) if entry.dtype == "BF16" else _decoded(array, entry.dtype)
