"""Files of token ids: nanoGPT's uint16 and uint32 files, and those of llm.c with their header.

llm.c (`dev/data/data_common.py`): 256 int32 numbers, of which the first is 20240520 for uint16
tokens (GPT-2) or 20240801 for uint32 ones (LLaMA 3), the second the version and the third the
number of tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from .pieces import Piece

TOKENS_PER_PIECE = 1 << 18
HEADER = 1024
MAGIC = {20240520: "<u2", 20240801: "<u4"}
"""llm.c's first number of a file, and the type of its tokens."""
LOOKED_AT = 1 << 20
"""Bytes at the beginning of a file that tell its type."""


@dataclass(frozen=True)
class Layout:
    """How the tokens of a file are stored."""

    dtype: str
    offset: int = 0
    """Bytes of the header."""

    @property
    def usual(self) -> bool:
        """Whether it is nanoGPT's own, uint16 without a header."""
        return self.dtype == "<u2" and not self.offset


def layout(path: Path, vocab_size: int | None) -> Layout:
    """Find out how the tokens of a file are stored.

    Without a header, uint32 is told from uint16 by the vocabulary: tokens that need more than 16
    bits, or numbers that fit only when every second half is taken as the upper one.

    Args:
        path: the file.
        vocab_size: tokens of the vocabulary; None if it isn't known yet.

    Raises:
        DataError: it is compressed, or its size or header doesn't fit.
    """
    if path.suffix.lower() != ".bin":
        raise DataError(f"{path} is compressed; tokens are read where they are: decompress it.")
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(LOOKED_AT)
    if size >= HEADER:
        magic, _, n_tokens = np.frombuffer(first, "<i4", count=3).tolist()
        if magic in MAGIC:
            layout = Layout(MAGIC[magic], HEADER)
            if size != HEADER + n_tokens * np.dtype(layout.dtype).itemsize:
                raise DataError(
                    f"{path} is damaged: its header names {n_tokens:,} tokens, and it has "
                    f"{size:,} bytes."
                )
            return layout
    wide = vocab_size is not None and (vocab_size > 1 << 16 or _only_wide(first, vocab_size))
    layout = Layout("<u4" if wide else "<u2")
    if size % np.dtype(layout.dtype).itemsize:
        bits = "uint32" if wide else "uint16"
        why = f" (the vocabulary has {vocab_size:,})" if wide else ""
        raise DataError(f"{path} is no file of {bits} tokens{why}: it has {size:,} bytes.")
    return layout


def _only_wide(first: bytes, vocab_size: int) -> bool:
    """Whether bytes are tokens of the vocabulary as uint32, and as uint16 not, or half zeros."""
    numbers = np.frombuffer(first, "<u4", count=len(first) // 4)
    halves = np.frombuffer(first, "<u2", count=len(first) // 2)
    if not len(numbers) or numbers.max() >= vocab_size:
        return False
    return bool(halves.max() >= vocab_size or (len(numbers) > 1 and numbers.any()))


def read_tokens(path: Path, layout: Layout) -> Iterator[Piece]:
    """Yield the tokens of a file in pieces; documents are found by the end token later."""
    if path.stat().st_size <= layout.offset:
        return
    tokens = np.memmap(path, dtype=layout.dtype, mode="r", offset=layout.offset)
    for start in range(0, len(tokens), TOKENS_PER_PIECE):
        part = np.array(tokens[start : start + TOKENS_PER_PIECE])
        yield Piece("", first=start == 0, where=str(path), tokens=part)
