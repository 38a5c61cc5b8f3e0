"""Draws the length of the prefix of a prefix language model."""

import numpy as np


def prefix_length(n: int, rng: np.random.Generator) -> int:
    """Draw the number of tokens in the prefix, uniform in 1 to n - 1.

    Raffel et al. 2020, section 3.2.3: "a span of text [cut] at a random point".
    """
    return int(rng.integers(1, max(2, n)))
