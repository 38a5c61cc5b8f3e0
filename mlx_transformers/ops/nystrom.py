"""Nyström attention: softmax attention by way of a few landmarks, linear in length.

Xiong et al. 2021, "Nyströmformer", equations 12 to 15.
"""

from typing import Literal

import mlx.core as mx

from ..core.shapes import BHT_, BHTK

Start = Literal["matrix", "batch"]
"""The divisor of the pseudo-inverse's first iterate: norms of each matrix, or of the batch."""


def nystrom_attention(
    q: BHTK,
    k: BHTK,
    v: BHT_,
    *,
    n_landmarks: int,
    iterations: int,
    scale: float,
    valid: mx.array | None = None,
    masked: Literal["all", "keys"] = "all",
    start: Start = "matrix",
) -> BHT_:
    """`softmax(q kₗᵀ) softmax(qₗ kₗᵀ)⁺ softmax(qₗ kᵀ) v`, with landmarks `qₗ`, `kₗ`.

    A landmark is the mean of `ceil(T / n_landmarks)` neighbours. A row whose length is no multiple
    is padded with zeros in front, as in nystrom-attention 0.0.14: they take part in the softmax
    unless `valid` is given.

    Args:
        q, k, v: queries, keys and values of one length.
        n_landmarks: landmarks, the rank of the approximation.
        iterations: those of the pseudo-inverse.
        scale: factor of the scores.
        valid: `[B, T]` whether a position is not padding.
        masked: what padding is excluded from: queries, landmarks and keys, or keys alone
            (transformers' code, where padding takes part in landmarks).
        start: the first iterate of the pseudo-inverse.
    """
    T = q.shape[2]
    front = -T % n_landmarks
    q, k, v = (_pad(x.astype(mx.float32), front) for x in (q * scale, k, v))
    n = q.shape[2] // n_landmarks
    is_token = None if valid is None else mx.pad(valid, [(0, 0), (front, 0)])[:, None, :]
    exists, count = None, mx.array(float(n))
    if is_token is not None and masked == "all":
        q, k, v = (mx.where(is_token[..., None], x, 0.0) for x in (q, k, v))
        within = (
            is_token.reshape(*is_token.shape[:2], n_landmarks, n).sum(axis=-1).astype(mx.float32)
        )
        exists, count = within > 0, within[..., None] + 1e-8
    q_marks, k_marks = (x.reshape(*x.shape[:2], n_landmarks, n, -1).sum(-2) / count for x in (q, k))
    rows = is_token if exists is not None else None
    from_queries = _softmax(q @ k_marks.swapaxes(-1, -2), rows, exists)
    between = _softmax(q_marks @ k_marks.swapaxes(-1, -2), exists, exists)
    from_marks = _softmax(q_marks @ k.swapaxes(-1, -2), exists, is_token)
    y = (from_queries @ pseudo_inverse(between, iterations, start)) @ (from_marks @ v)
    return y[:, :, front:]


def pseudo_inverse(a: mx.array, iterations: int, start: Start = "matrix") -> mx.array:
    """Approximate the Moore-Penrose inverse of matrices `a [B, H, N, N]` whose rows sum to 1.

        Z ← Z/4 (13 I - A Z (15 I - A Z (7 I - A Z)))    from Z = Aᵀ / (‖A‖₁ ‖A‖∞)

    Razavi et al. 2014. `start` chooses the norms: of each matrix; or the largest sums of the whole
    batch, as published code has it, so that the result of a row depends on the others of its batch.
    """
    columns, rows = mx.abs(a).sum(axis=-2), mx.abs(a).sum(axis=-1)
    if start == "batch":
        norm = columns.max() * rows.max()
    else:
        norm = (columns.max(axis=-1) * rows.max(axis=-1))[..., None, None]
    z = a.swapaxes(-1, -2) / norm
    eye = mx.eye(a.shape[-1], dtype=a.dtype)
    for _ in range(iterations):
        az = a @ z
        z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
    return z


def depthwise_conv(v: mx.array, weight: mx.array) -> mx.array:
    """Convolve values `[B, H, T, K]` over time, each head by its own centred `weight [H, odd]`."""
    B, H, T, K = v.shape
    x = v.transpose(0, 3, 2, 1).reshape(B * K, T, H)
    kernel = weight.astype(v.dtype)[..., None]
    y = mx.conv1d(x, kernel, padding=weight.shape[1] // 2, groups=H)
    return y.reshape(B, K, T, H).transpose(0, 3, 2, 1)


def _pad(x: mx.array, front: int) -> mx.array:
    return mx.pad(x, [(0, 0), (0, 0), (front, 0), (0, 0)]) if front else x


def _softmax(scores: mx.array, rows: mx.array | None, columns: mx.array | None) -> mx.array:
    """Softmax of `scores [B, H, N, S]`, where rows and columns exist; uniform elsewhere."""
    if columns is not None:
        allowed = columns[..., None, :] if rows is None else rows[..., None] & columns[..., None, :]
        scores = mx.where(allowed, scores, mx.finfo(scores.dtype).min)
    return mx.softmax(scores, axis=-1)
