"""Arrays in a file that are read when they are needed: leaves of a tree larger than memory."""

import errno
import json
import os
import struct
import tempfile
import weakref
from math import prod
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..core.errors import RunError

DTYPES = {
    "BOOL": mx.bool_,
    "U8": mx.uint8,
    "U16": mx.uint16,
    "U32": mx.uint32,
    "U64": mx.uint64,
    "I8": mx.int8,
    "I16": mx.int16,
    "I32": mx.int32,
    "I64": mx.int64,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "F32": mx.float32,
    "C64": mx.complex64,
}
"""MLX's dtype of each name in the header of a safetensors file."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}

PIECE = 2**30
"""Most bytes that one call reads or writes: macOS refuses 2 GiB."""


class Handle:
    """A file that is open as long as something refers to it."""

    def __init__(self, number: int) -> None:
        self.number = os.dup(number)
        weakref.finalize(self, os.close, self.number)


class Stored:
    """An array in a file; it has the shape and dtype of the array that `read` returns.

    Trees hold it in place of the array. MLX's functions on trees leave it alone, since it is none.
    """

    def __init__(self, file: Handle, start: int, shape: tuple[int, ...], dtype: mx.Dtype) -> None:
        self._file, self._start = file, start
        self._axes = list(range(len(shape)))
        self.shape, self.dtype = shape, dtype
        self.size = prod(shape)
        self.nbytes = self.size * dtype.size

    def read(self) -> mx.array:
        """Return the array.

        Its axes are in memory as those of the array that was written: sums depend on their order.

        Raises:
            OSError: the file can't be read, or ends before the array does.
        """
        # Not through a mapping: on macOS Python flushes the disk for each that it makes.
        host = np.empty([self.shape[i] for i in self._axes], host_dtype(self.dtype))
        data, at = as_bytes(host), self._start
        while data:
            got = os.preadv(self._file.number, [data[:PIECE]], at)
            if got == 0:
                raise OSError(errno.EIO, "The file ends before the array does")
            data, at = data[got:], at + got
        laid_out = mx.array(host)
        if self.dtype == mx.bfloat16:
            laid_out = laid_out.view(mx.bfloat16)
        return laid_out.transpose([self._axes.index(i) for i in range(len(self._axes))])

    def write(self, array: mx.array) -> None:
        """Replace the array by one of its shape and dtype.

        Raises:
            OSError: the disk is full or can't be written.
        """
        host = on_host(array)
        self._axes = sorted(range(host.ndim), key=lambda axis: -host.strides[axis])
        # Not through a mapping: without space that would be a signal, which ends the process.
        data, at = as_bytes(host.transpose(self._axes)), self._start
        while data:
            written = os.pwrite(self._file.number, data[:PIECE], at)
            data, at = data[written:], at + written


def host_dtype(dtype: mx.Dtype) -> np.dtype:
    """Return NumPy's dtype of MLX's; bfloat16 is its bits."""
    return np.dtype("uint16" if dtype == mx.bfloat16 else str(dtype).rpartition(".")[2])


def on_host(array: mx.array) -> np.ndarray:
    """Return an array, which is evaluated, as NumPy's; bfloat16 as its bits."""
    return np.asarray(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)


def as_bytes(host: np.ndarray) -> memoryview:
    """Return the bytes of an array, its last axis first to change."""
    return np.ascontiguousarray(host).reshape(-1).view(np.uint8).data


class Scratch:
    """A file without a name, which the system removes when the process ends, however it ends.

    Args:
        folder: a folder on the disk to use; if it doesn't exist yet, the nearest above it.
        size: bytes that the arrays will take.

    Raises:
        RunError: the disk has less space, or the folder can't be written.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
        self._end = 0
        try:
            free = os.statvfs(self.folder)
            if size > free.f_bavail * free.f_frsize:
                raise self._error(f"it has {free.f_bavail * free.f_frsize / 1e9:,.2f} GB", size)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                self._file = Handle(file.fileno())
        except OSError as error:
            raise self._error(error.strerror or str(error), size) from error

    def append(self, array: mx.array) -> Stored:
        """Write an array behind the others.

        Raises:
            RunError: it can't be written.
        """
        stored = Stored(self._file, self._end, tuple(array.shape), array.dtype)
        try:
            stored.write(array)
        except OSError as error:
            raise self._error(error.strerror or str(error), stored.nbytes) from error
        self._end += stored.nbytes
        return stored

    def _error(self, why: str, size: int) -> RunError:
        return RunError(
            f"The optimizer state can't be kept in {self.folder}: {size / 1e9:,.2f} GB are to be "
            f"written, and {why}. Set train.offload_optimizer to a folder on another disk, or "
            "leave it out."
        )


def in_safetensors(path: Path) -> dict[str, Stored]:
    """Return the arrays of a safetensors file that this project wrote, by name.

    Raises:
        OSError: the file can't be read.
    """
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        handle = Handle(file.fileno())
    header.pop("__metadata__", None)
    return {
        name: Stored(
            handle, 8 + length + at["data_offsets"][0], tuple(at["shape"]), DTYPES[at["dtype"]]
        )
        for name, at in header.items()
    }
