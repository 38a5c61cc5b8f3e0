"""Operations on pairs of residues and on alignments (AlphaFold 2: Jumper et al. 2021, supplement).

Pairs are `z [B, N, N, D]`, alignments `m [B, S, N, D]`: S sequences of N residues.
"""

import mlx.core as mx

from ..core.shapes import Array
from .device import upcast


def triangle_product(a: Array, b: Array, *, incoming: bool) -> Array:
    """Sum over the third residue of a triangle, `[B, N, N, D]`, channel by channel.

    Outgoing edges: `sum_k a_ik b_jk` (algorithm 11); incoming ones: `sum_k a_ki b_kj` (12).
    """
    a, b = a.transpose(0, 3, 1, 2), b.transpose(0, 3, 1, 2)
    product = a.swapaxes(-1, -2) @ b if incoming else a @ b.swapaxes(-1, -2)
    return product.transpose(0, 2, 3, 1)


def outer_product(a: Array, b: Array) -> Array:
    """Sum over the sequences of the products of two residues' features, `[B, N, N, C * E]`, for
    `a [B, S, N, C]` and `b [B, S, N, E]` (algorithm 10)."""
    B, S, N, C = a.shape
    E = b.shape[-1]
    left = a.reshape(B, S, N * C).swapaxes(-1, -2)
    product = left @ b.reshape(B, S, N * E)
    return product.reshape(B, N, C, N, E).transpose(0, 1, 3, 2, 4).reshape(B, N, N, C * E)


def attention_of_rows(q: Array, k: Array, v: Array, bias: Array) -> Array:
    """`softmax(q k^T / sqrt(K) + bias) v` for each row R of a picture of pairs or sequences.

    q, k, v are `[B, R, T, H, K]`; `bias` is broadcast to `[B, R, H, T, T]`: a mask, and scores that
    the rows share. Softmax is in float32. Returns `[B, R, T, H, K]`.
    """
    q, k, v = (x.swapaxes(2, 3) for x in (q, k, v))
    scores = upcast((q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)) + upcast(bias)
    weights = mx.softmax(scores, axis=-1).astype(v.dtype)
    return (weights @ v).swapaxes(2, 3)
