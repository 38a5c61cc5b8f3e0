"""Random features of Performer (FAVOR+), whose products estimate a kernel of queries and keys.

Choromanski et al. 2021, "Rethinking Attention with Performers", section 2. Projections `w [N, K]`
are made by NumPy, since MLX has a QR decomposition for the CPU alone.
"""

from collections.abc import Callable
from typing import Literal

import mlx.core as mx
import numpy as np

Maximum = Literal["features", "positions"] | None


def softmax_features(
    x: mx.array,
    projection: mx.array,
    *,
    eps: float = 1e-4,
    maximum: Maximum = "features",
    through_maximum: bool = False,
) -> mx.array:
    """Positive features of the softmax kernel `exp(qᵀk/√K)` (equation 5, lemma 1).

        φ(x) = N^-1/2 (exp(w x' - |x'|²/2 - max) + eps)    with x' = x / K^1/4

    The maximum keeps exponentials small and cancels in attention, but for eps. Published code
    takes that of each query, and for keys that of all positions of a head; then a causal output
    depends on later keys by way of eps. Without a maximum features are exact, and at most
    `exp(|w|²/2)`.

    Args:
        x: queries or keys `[..., T, K]`.
        projection: `w [N, K]`.
        eps: added to each exponential.
        maximum: what the subtracted maximum runs over: the features of a position, those of all
            positions too, or nothing.
        through_maximum: whether the maximum has a gradient; published PyTorch code stops it.

    Returns:
        `[..., T, N]`, in float32.
    """
    x = x.astype(mx.float32) * x.shape[-1] ** -0.25
    projected = x @ projection.astype(mx.float32).T
    exponent = projected - 0.5 * x.square().sum(axis=-1, keepdims=True)
    if maximum is not None:
        axes = (-1,) if maximum == "features" else (-1, -2)
        top = projected.max(axis=axes, keepdims=True)
        exponent = exponent - (top if through_maximum else mx.stop_gradient(top))
    return float(projection.shape[0] ** -0.5) * (mx.exp(exponent) + eps)


def generalized_features(
    x: mx.array,
    projection: mx.array | None,
    activation: Callable[[mx.array], mx.array],
    *,
    eps: float = 1e-3,
    scaled: bool = True,
) -> mx.array:
    """Features `activation(w x / K^1/4) + eps` of a generalised kernel (section 2.2); relu is best
    in the paper's experiments.

    Args:
        x: queries or keys `[..., T, K]`.
        projection: `w [N, K]`; None: x itself.
        activation: an elementwise function.
        eps: added to each feature.
        scaled: whether x is divided by K^1/4 (performer-pytorch), or not (the JAX code).

    Returns:
        `[..., T, N]`, in float32.
    """
    x = x.astype(mx.float32)
    x = x * x.shape[-1] ** -0.25 if scaled else x
    projected = x if projection is None else x @ projection.astype(mx.float32).T
    return activation(projected) + eps


def orthogonal_projection(
    n_features: int, width: int, rng: np.random.Generator, *, regular: bool = False
) -> np.ndarray:
    """Random vectors `[N, K]` that are orthogonal in blocks of K (section 2.4).

    Their norms are those of Gaussian vectors, or all √K (`regular`).
    """
    blocks = []
    for _ in range(-(-n_features // width)):
        q, r = np.linalg.qr(rng.standard_normal((width, width)))
        blocks.append((q * np.sign(np.diag(r))).T)
    directions = np.concatenate(blocks)[:n_features]
    if regular:
        norms = np.full(n_features, width**0.5)
    else:
        norms = np.linalg.norm(rng.standard_normal((n_features, width)), axis=1)
    features: np.ndarray = norms[:, None] * directions
    return features.astype(np.float32)
