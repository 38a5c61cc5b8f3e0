"""The weights of goldens: drawn from the name of a tensor, so that nobody has to store them.

A tensor's numbers are uniform, from NumPy's PCG64 seeded by the CRC-32 of its name; both streams
are fixed by NumPy's promise on bit generators. Matrices have the spread of `1/√(last axis)`, so
that signals keep their size; vectors called weight lie around 1, all others around 0.
"""

import math
import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

Special = Mapping[str, Sequence[float]]
"""Regular expressions of names, and the mean and the spread (half the range) of their numbers."""


def draw(name: str, shape: Sequence[int], special: Special | None = None) -> np.ndarray:
    """The tensor of this name and shape, in float32."""
    mean, spread = _range(name, shape, special or {})
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(max(1, math.prod(shape)))
    unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0
    return (mean + spread * unit).astype(np.float32).reshape(shape)


def tokens(seed: int, vocab_size: int, shape: Sequence[int]) -> np.ndarray:
    """Token ids that avoid the first four, which tokenizers keep for themselves."""
    bits = np.random.PCG64(seed).random_raw(math.prod(shape))
    return (4 + bits % np.uint64(vocab_size - 4)).astype(np.int32).reshape(shape)


def _range(name: str, shape: Sequence[int], special: Special) -> tuple[float, float]:
    for pattern, (mean, spread) in special.items():
        if re.search(pattern, name):
            return mean, spread
    if len(shape) > 1:
        return 0.0, math.sqrt(3 / shape[-1])
    return (1.0, 0.3) if name.endswith("weight") else (0.0, 0.3)
