"""Shards of token ids on disk: written as a stream, read as one memory-mapped array."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from ..core.errors import DataError

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
        whole, rest = divmod(self.counts.tokens, self.shard_tokens)
        for path in self.folder.glob(f"{self.split}-*.bin"):
            number = int(path.stem.rsplit("-", 1)[1])
            if number > whole or (number == whole and not rest):
                path.unlink()
            elif number == whole:
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
                self._shard.close()
                self._shard = None

    def flush(self) -> None:
        """Flush Python's buffers to the operating system."""
        self._index.flush()
        if self._shard is not None:
            self._shard.flush()

    def close(self) -> None:
        """Flush and close the files."""
        self._index.close()
        if self._shard is not None:
            self._shard.close()
            self._shard = None


def _truncate(path: Path, size: int) -> None:
    with open(path, "ab") as file:
        file.truncate(size)
    if path.stat().st_size != size:
        raise DataError(f"{path} is damaged: remove the folder {path.parent} and run again.")


class Tokens:
    """All tokens of a split as one array; the shards stay on disk, memory-mapped.

    Raises:
        DataError: a shard is missing or its size differs from the manifest.
    """

    def __init__(self, folder: Path, split: str, dtype: np.dtype, n_tokens: int, shard_tokens: int):
        self.dtype, self.n_tokens, self.shard_tokens = dtype, n_tokens, shard_tokens
        self._shards = []
        for start in range(0, n_tokens, shard_tokens):
            path = shard_path(folder, split, start // shard_tokens)
            length = min(shard_tokens, n_tokens - start)
            if not path.exists() or path.stat().st_size != length * dtype.itemsize:
                raise DataError(
                    f"The prepared set is damaged: {path} should hold {length} tokens. "
                    f"Remove the folder {folder} and run again: it is made anew."
                )
            self._shards.append(np.memmap(path, dtype=dtype, mode="r", shape=(length,)))

    def __len__(self) -> int:
        return self.n_tokens

    def __getitem__(self, where: slice) -> np.ndarray:
        """Return a copy of a slice without a step: [n] of `dtype`."""
        start, stop, step = where.indices(self.n_tokens)
        if step != 1:
            raise ValueError(f"Tokens take slices of step 1, not {step}.")
        parts = []
        while start < stop:
            number, used = divmod(start, self.shard_tokens)
            part = self._shards[number][used : used + stop - start]
            parts.append(part)
            start += len(part)
        return np.concatenate(parts) if parts else np.zeros(0, self.dtype)

    def rows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Return `length` tokens from each of `starts` [B]: int32 [B, length].

        Every row must lie inside the split.
        """
        out = np.empty((len(starts), length), dtype=np.int32)
        for row, start in enumerate(starts):
            number, used = divmod(int(start), self.shard_tokens)
            if used + length <= self.shard_tokens:
                out[row] = self._shards[number][used : used + length]
            else:
                out[row] = self[int(start) : int(start) + length]
        return out
