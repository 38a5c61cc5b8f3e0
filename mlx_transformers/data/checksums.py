"""Checksums of prepared tokens, block by block, so that a block is checked when first read."""

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

BLOCK_TOKENS = 1 << 19
"""Tokens per checksum: 1 MiB of uint16."""


def block_checksums(shards: Sequence[np.ndarray]) -> list[int]:
    """Return the CRC-32 of every block of a split, whose blocks may span shards."""
    n_tokens = sum(map(len, shards))
    starts = range(0, n_tokens, BLOCK_TOKENS)
    return [checksum(parts(shards, start, start + BLOCK_TOKENS)) for start in starts]


def checksum(arrays: Iterator[np.ndarray]) -> int:
    """Return the CRC-32 of the bytes of arrays, one after the other."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return crc


def parts(shards: Sequence[np.ndarray], start: int, stop: int) -> Iterator[np.ndarray]:
    """Yield the parts of tokens `start` to `stop`, one of each shard; all but the last shard have
    the same length."""
    shard_tokens = len(shards[0]) if shards else 0
    stop = min(stop, sum(map(len, shards)))
    while start < stop:
        number, used = divmod(start, shard_tokens)
        part = shards[number][used : used + stop - start]
        yield part
        start += len(part)
