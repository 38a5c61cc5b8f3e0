"""Retention's rates, and its parallel form over all pairs of tokens."""

import mlx.core as mx
import numpy as np

from ..core.shapes import BHT_, BHTK
from .device import upcast
from .masks import Mask


def retention_log_decays(n_heads: int) -> np.ndarray:
    """`log(1 - 2^(-5 - h))` of each head h, `[H]` in float32 (Sun et al. 2023, equation 8)."""
    decays: np.ndarray = np.log1p(-(2.0 ** (-5.0 - np.arange(n_heads))))
    return decays.astype(np.float32)


def retention_parallel(q: BHTK, k: BHTK, v: BHT_, *, scale: float, mask: Mask) -> BHT_:
    """`(scale · q kᵀ ⊙ D) v` with `D_ts = γ^(t - s)`, each row divided as in the published code.

    That is by `√(Σ_s D_ts)`, then by `max(Σ_s |A_ts|, 1)` of the weights A that result, which keeps
    half precision in range (Sun et al. 2023, section 2.4). A norm of each head's output undoes
    both, but for its eps. Work and memory grow with T².

    Args:
        mask: causal, with the documents and padding of the rows.
    """
    length = q.shape[2]
    allowed = mask.array(length, length)
    distance = mx.arange(length)[:, None] - mx.arange(length)
    rates = mx.array(retention_log_decays(q.shape[1]))[:, None, None]
    decay = mx.exp(rates * mx.maximum(distance, 0))
    decay = mx.where(True if allowed is None else allowed, decay, 0.0)
    total = mx.maximum(decay.sum(axis=-1, keepdims=True), 1.0)
    weights = (upcast(q) * scale) @ upcast(k).swapaxes(-1, -2) * (decay * mx.rsqrt(total))
    size = mx.stop_gradient(mx.maximum(mx.abs(weights).sum(axis=-1, keepdims=True), 1.0))
    return (weights / size @ upcast(v)).astype(v.dtype)
