"""pass@k: the probability that one of k samples is right.

    pass@k = 1 - C(n - c, k) / C(n, k)        of n samples, c of them right

The unbiased estimator of Chen et al. 2021, "Evaluating Large Language Models Trained on Code".
"""

import numpy as np

from ..core.errors import RunError


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Estimate pass@k of a task with `samples` samples, `right` of them right.

    Raises:
        RunError: there are fewer samples than k, or more right ones than samples.
    """
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise RunError(
            f"pass@{k} of {right} right among {samples} samples can't be estimated: draw at least "
            "k samples."
        )
    if samples - right < k:
        return 1.0
    return float(1 - np.prod(1 - k / np.arange(samples - right + 1, samples + 1)))
