"""Where the prefix of a prefix language model ends."""

import numpy as np


def prefix_length(n: int, rng: np.random.Generator) -> int:
    """Tokens of n that are seen in both directions, 1 to n - 1, each as likely.

    Raffel et al. 2020, section 3.2.3: "a span of text [cut] at a random point".
    """
    return int(rng.integers(1, max(2, n)))
