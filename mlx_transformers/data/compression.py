"""Opens files that may be compressed, and refuses those that hold no text by their kind."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, cast

from ..core.errors import DataError

MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
"""First bytes of compressed files."""

REFUSED = {
    **dict.fromkeys(MAGIC, "compressed twice: decompress it once"),
    b"PK\x03\x04": "a ZIP archive (as .docx, .xlsx and .npz are): unpack it, or save it as text",
    b"%PDF": "a PDF: extract its text first (pdftotext)",
    b"ARROW1": "an Arrow file: save it as .parquet or .jsonl",
    b"PAR1": "a Parquet file: give its name the suffix .parquet",
    b"\x93NUMPY": "a NumPy array: tokens are read from .bin files (array.tofile)",
    b"SQLite format 3\x00": "an SQLite database: export its rows as .jsonl or .tsv",
    b"GGUF": "a GGUF model: mlxt import reads those",
    b"\x89HDF\r\n": "an HDF5 file: save its text as .jsonl",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"Rar!": "an archive: unpack it",
    b"7z\xbc\xaf\x27\x1c": "an archive: unpack it",
    b"{\\rtf": "an RTF document: save it as plain text",
    b"\x7fELF": "a program",
}
"""First bytes of files that hold no plain text, and what to do about them."""
TAR = slice(257, 262)


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed, by its first bytes."""
    return _compression(path) is not None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed if it is compressed.

    Raises:
        DataError: it is damaged, of a kind that holds no text, or its compression needs a package
            that is not installed.
    """
    kind = _compression(path)
    suffix = path.suffix.lower()
    if suffix in MAGIC.values() and kind != suffix and path.stat().st_size:
        raise DataError(
            f"{path} is no {suffix} file: its first bytes are those of another kind. "
            "Give its name the suffix of what it holds."
        )
    try:
        with _open(path, kind) as file:
            _refuse(path, file)
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path} is damaged: it can't be decompressed ({error}).") from None
    except (OSError, ValueError, RuntimeError) as error:
        # bz2 and zstd report damage by errors that mean other things elsewhere.
        if kind is None or isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged: it can't be decompressed ({error}).") from None


def _compression(path: Path) -> str | None:
    with open(path, "rb") as file:
        first = file.read(6)
    return next((kind for magic, kind in MAGIC.items() if first.startswith(magic)), None)


def _open(path: Path, kind: str | None) -> BinaryIO:
    match kind:
        case ".gz":
            return cast(BinaryIO, gzip.open(path))
        case ".bz2":
            return cast(BinaryIO, bz2.open(path))
        case ".xz":
            return cast(BinaryIO, lzma.open(path))
        case ".zst":
            return _open_zstd(path)
    return open(path, "rb")


def _open_zstd(path: Path) -> BinaryIO:
    for module in ("compression.zstd", "backports.zstd", "zstandard"):
        if find_spec(module.split(".")[0]) and find_spec(module):
            return cast(BinaryIO, import_module(module).open(path, "rb"))
    raise DataError(
        f"{path} is compressed with zstd, which needs the `zstandard` package: "
        "pip install zstandard. Or decompress it: zstd -d."
    )


def _refuse(path: Path, file: BinaryIO) -> None:
    first = file.read(TAR.stop)
    file.seek(0)
    for magic, what in REFUSED.items():
        if first.startswith(magic):
            raise DataError(f"{path} is {what}. A text is read from plain text, .jsonl or .tsv.")
    if first[TAR] == b"ustar":
        raise DataError(f"{path} is a tar archive: unpack it, and give the folder.")
