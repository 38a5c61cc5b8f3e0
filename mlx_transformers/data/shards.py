"""Shards of token ids on disk: written as a stream, read as one memory-mapped array."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from ..core.errors import DataError
from ..core.sync import sync_handle
from .checksums import BLOCK_TOKENS, block_checksums, checksum, parts

Split = Literal["train", "valid"]
SPLITS: tuple[Split, Split] = ("train", "valid")

Batch = dict[str, np.ndarray]
"""The arrays of a batch by name."""

SHARD_TOKENS = 1 << 26
"""Tokens per shard: 128 MiB of uint16."""


def token_dtype(vocab_size: int) -> np.dtype:
    """Return uint16 if it holds every token id, else uint32; little-endian."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Return the path of a shard: `train-00000.bin` and so on."""
    return folder / f"{split}-{number:05d}.bin"


def index_path(folder: Path, split: str) -> Path:
    """Return the path of a split's index (`train.idx`): the start of each document, uint64,
    little-endian."""
    return folder / f"{split}.idx"


@dataclass
class Counts:
    """Sizes of a split."""

    tokens: int = 0
    documents: int = 0
    bytes: int = 0
    """UTF-8 bytes of its text."""


class SplitWriter:
    """Appends to the shards of one split from `counts` on; anything beyond is truncated.

    A shard holds exactly `shard_tokens` tokens, so the counts alone say where to continue.
    """

    def __init__(
        self, folder: Path, split: str, dtype: np.dtype, shard_tokens: int, counts: Counts
    ) -> None:
        self.folder, self.split, self.dtype = folder, split, dtype
        self.shard_tokens = shard_tokens
        self.counts = Counts(**asdict(counts))
        self._cut_off()
        self._index = open(index_path(folder, split), "ab")  # noqa: SIM115
        self._shard: BinaryIO | None = None

    def _cut_off(self) -> None:
        full_shards, rest = divmod(self.counts.tokens, self.shard_tokens)
        for path in self.folder.glob(f"{self.split}-*.bin"):
            number = int(path.stem.rsplit("-", 1)[1])
            if number > full_shards or (number == full_shards and not rest):
                path.unlink()
            elif number == full_shards:
                _truncate(path, rest * self.dtype.itemsize)
        _truncate(index_path(self.folder, self.split), self.counts.documents * 8)

    def _path(self, number: int) -> Path:
        return shard_path(self.folder, self.split, number)

    def start_document(self, ahead: int = 0) -> None:
        """Record that a document starts `ahead` tokens after the last token written."""
        self._index.write(np.uint64(self.counts.tokens + ahead).tobytes())
        self.counts.documents += 1

    def last(self) -> int | None:
        """Return the last token written, or None if there is none."""
        if not self.counts.tokens:
            return None
        self.flush()
        number, place = divmod(self.counts.tokens - 1, self.shard_tokens)
        size = self.dtype.itemsize
        token = np.fromfile(self._path(number), self.dtype, count=1, offset=place * size)
        return int(token[0])

    def append(self, tokens: np.ndarray) -> None:
        """Write tokens [n], into as many shards as they need."""
        tokens = np.ascontiguousarray(tokens, dtype=self.dtype)
        while len(tokens):
            number, used = divmod(self.counts.tokens, self.shard_tokens)
            part = tokens[: self.shard_tokens - used]
            if self._shard is None:
                self._shard = open(self._path(number), "ab")  # noqa: SIM115
            self._shard.write(part.data)
            self.counts.tokens += len(part)
            tokens = tokens[len(part) :]
            if self.counts.tokens % self.shard_tokens == 0:
                self._close_shard()

    def flush(self) -> None:
        """Flush Python's buffers to the operating system."""
        self._index.flush()
        if self._shard is not None:
            self._shard.flush()

    def sync(self) -> None:
        """Flush everything to the disk."""
        self.flush()
        sync_handle(self._index.fileno())
        if self._shard is not None:
            sync_handle(self._shard.fileno())

    def close(self) -> None:
        """Flush everything to the disk and close the files."""
        self._index.flush()
        sync_handle(self._index.fileno())
        self._index.close()
        self._close_shard()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard.flush()
            sync_handle(self._shard.fileno())
            self._shard.close()
            self._shard = None


def _truncate(path: Path, size: int) -> None:
    with open(path, "ab") as file:
        file.truncate(size)
    if path.stat().st_size != size:
        raise DataError(f"{path} is damaged: remove the folder {path.parent} and run again.")


class Tokens:
    """All tokens of a split as one array; the shards stay on disk, memory-mapped.

    Blocks are checked against `checksums`, if there are any, when they are first read.

    Raises:
        DataError: a shard is missing or its size differs from the manifest; on reading, that its
            content does.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        dtype: np.dtype,
        n_tokens: int,
        shard_tokens: int,
        checksums: Sequence[int] | None = None,
    ) -> None:
        self.folder, self.split, self.dtype = folder, split, dtype
        self.n_tokens, self.shard_tokens, self._checksums = n_tokens, shard_tokens, checksums
        self._shards: list[np.ndarray] = []
        for start in range(0, n_tokens, shard_tokens):
            path = shard_path(folder, split, start // shard_tokens)
            length = min(shard_tokens, n_tokens - start)
            if not path.exists() or path.stat().st_size != length * dtype.itemsize:
                raise DataError(self._damaged(f"{path} should hold {length} tokens"))
            self._shards.append(np.memmap(path, dtype=dtype, mode="r", shape=(length,)))
        self._unchecked = np.ones(-(-n_tokens // BLOCK_TOKENS), bool)
        if checksums is not None and len(checksums) != len(self._unchecked):
            raise DataError(self._damaged(f"'{split}' has {len(checksums)} checksums"))

    def __len__(self) -> int:
        return self.n_tokens

    def __getitem__(self, where: slice) -> np.ndarray:
        """Return a copy of a slice without a step: [n] of `dtype`."""
        start, stop, step = where.indices(self.n_tokens)
        if step != 1:
            raise ValueError(f"Tokens take slices of step 1, not {step}.")
        self._check(start, stop)
        blocks = list(parts(self._shards, start, stop))
        return np.concatenate(blocks) if blocks else np.zeros(0, self.dtype)

    def rows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Return `length` tokens from each of `starts` [B]: int32 [B, length].

        Every row must lie inside the split.
        """
        out = np.empty((len(starts), length), dtype=np.int32)
        for row, start in enumerate(starts):
            self._check(int(start), int(start) + length)
            number, used = divmod(int(start), self.shard_tokens)
            if used + length <= self.shard_tokens:
                out[row] = self._shards[number][used : used + length]
            else:
                out[row] = self[int(start) : int(start) + length]
        return out

    def counts(self, vocab_size: int) -> np.ndarray:
        """Return how often each token occurs: int64 [V]."""
        counts = np.zeros(vocab_size, np.int64)
        for start in range(0, self.n_tokens, BLOCK_TOKENS):
            counts += np.bincount(self[start : start + BLOCK_TOKENS], minlength=vocab_size)
        return counts

    def checksums(self) -> list[int]:
        """Return the checksum of every block as it is on disk."""
        return block_checksums(self._shards)

    def _check(self, start: int, stop: int) -> None:
        first, last = start // BLOCK_TOKENS, -(-stop // BLOCK_TOKENS)
        if self._checksums is None or not self._unchecked[first:last].any():
            return
        for block in (np.flatnonzero(self._unchecked[first:last]) + first).tolist():
            begin = block * BLOCK_TOKENS
            if checksum(parts(self._shards, begin, begin + BLOCK_TOKENS)) != self._checksums[block]:
                end = min(begin + BLOCK_TOKENS, self.n_tokens)
                raise DataError(
                    self._damaged(f"tokens {begin:,} to {end:,} of '{self.split}' have changed")
                )
            self._unchecked[block] = False

    def _damaged(self, how: str) -> str:
        return damaged(self.folder, how)


def damaged(folder: Path, how: str) -> str:
    """Return the sentence for a prepared set that is not as it was written."""
    return (
        f"The prepared set is damaged: {how}. Remove the folder {folder} and run again: it is "
        "prepared anew."
    )
