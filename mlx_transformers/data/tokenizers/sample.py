"""Reservoir sampling of a text that may be larger than memory."""

import random
from collections.abc import Iterable, Iterator

CHUNK_CHARS = 4096


def sample(texts: Iterable[str], n_bytes: int) -> list[str]:
    """Return chunks of the text, in order, of about `n_bytes` in total, or all of a shorter text.

    Reservoir sampling (Vitter 1985, algorithm R) over chunks of complete lines, with a fixed seed,
    so that the same text gives the same sample.
    """
    size = max(1, n_bytes // CHUNK_CHARS)
    rng = random.Random(0)
    reservoir: list[tuple[int, str]] = []
    for number, chunk in enumerate(_chunks(texts)):
        if len(reservoir) < size:
            reservoir.append((number, chunk))
        elif (place := rng.randrange(number + 1)) < size:
            reservoir[place] = (number, chunk)
    return [chunk for _, chunk in sorted(reservoir)]


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    block: list[str] = []
    length = 0
    for text in texts:
        for line in text.splitlines(keepends=True):
            block.append(line)
            length += len(line)
            if length >= CHUNK_CHARS:
                yield "".join(block)
                block, length = [], 0
    if block:
        yield "".join(block)
