"""Short causal depthwise convolution: each feature over its last few tokens.

    y_t = Σ_j w_j x_{t - W + 1 + j}        j = 0 ... W - 1

The last of the W weights meets the token itself, as in PyTorch's `Conv1d` with padding on the left
(the convolution in front of the scans of Mamba, Gated DeltaNet and Griffin). Tokens of other
documents and before the row read as zeros.
"""

import mlx.core as mx

from .custom_vjp import custom_vjp
from .sums import column_sum


def short_convolution(
    x: mx.array,
    weight: mx.array,
    segments: mx.array | None = None,
    past: mx.array | None = None,
) -> mx.array:
    """Convolve each feature over time.

    Args:
        x: `[B, T, D]`.
        weight: `[D, W]`.
        segments: `[B, T]` document ids.
        past: `[B, W - 1, D]`, the inputs before the row; None: zeros.

    Returns:
        `[B, T, D]`.
    """
    width = weight.shape[1]
    if past is None:
        past = mx.zeros((x.shape[0], width - 1, x.shape[2]), x.dtype)
    ids = segments

    def forward(x: mx.array, weight: mx.array, past: mx.array) -> mx.array:
        return short_convolution_naive(x, weight, ids, past)

    def backward(
        primals: list[mx.array], cotangent: mx.array, _: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        x, weight, past = primals
        length, behind = x.shape[1], width - 1
        inputs = mx.concatenate([past.astype(x.dtype), x], axis=1)
        rows = mx.contiguous(weight.T).astype(x.dtype)
        to_x = to_past = mx.zeros((), x.dtype)
        to_weight = []
        for j in range(width):
            masked = _of_same_document(cotangent, ids, behind - j)
            to_weight.append(column_sum((masked * inputs[:, j : j + length]).astype(mx.float32)))
            if j == 0 or ids is not None:
                padded = mx.pad(masked, [(0, 0), (behind, behind), (0, 0)])
            first = 2 * behind - j
            to_x = to_x + padded[:, first : first + length] * rows[j]
            to_past = to_past + padded[:, first - behind : first] * rows[j]
        return to_x, mx.stack(to_weight, axis=1).astype(weight.dtype), to_past.astype(past.dtype)

    out: mx.array = custom_vjp(forward, backward)(x, weight, past)
    return out


def short_convolution_naive(
    x: mx.array, weight: mx.array, segments: mx.array | None, past: mx.array
) -> mx.array:
    """The definition of `short_convolution`, left to autodiff."""
    length, width = x.shape[1], weight.shape[1]
    inputs = mx.concatenate([past.astype(x.dtype), x], axis=1)
    rows = mx.contiguous(weight.T).astype(x.dtype)
    y = mx.zeros((), x.dtype)
    for j in range(width):
        tap = inputs[:, j : j + length] * rows[j]
        y = y + _of_same_document(tap, segments, width - 1 - j)
    return y


def _of_same_document(x: mx.array, segments: mx.array | None, lag: int) -> mx.array:
    """x `[B, T, D]` where the token `lag` positions back is of the same document, else zero."""
    if segments is None or lag == 0:
        return x
    lag = min(lag, segments.shape[1])
    back = mx.pad(segments[:, : segments.shape[1] - lag], [(0, 0), (lag, 0)], constant_values=-1)
    return mx.where((back == segments)[..., None], x, mx.zeros((), x.dtype))
