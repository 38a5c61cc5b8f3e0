"""Losses of vectors in pairs: the softmax of CLIP and the sigmoid of SigLIP."""

import mlx.core as mx

from ..core.shapes import Array
from .device import upcast


def unit(x: Array) -> Array:
    """Vectors `[..., D]` scaled to length 1; zero vectors stay zero."""
    x = upcast(x)
    return x * mx.rsqrt(mx.maximum((x * x).sum(axis=-1, keepdims=True), 1e-24))


def pair_logits(a: Array, b: Array, log_scale: Array, bias: Array | None = None) -> Array:
    """`exp(log_scale) * cos(a_i, b_j) + bias`, `[N, M]`, of rows `[N, D]` and `[M, D]`."""
    logits = mx.exp(log_scale) * (unit(a) @ unit(b).T)
    return logits if bias is None else logits + bias


def clip_losses(logits: Array, keep: Array | None = None) -> Array:
    """The loss of each pair, `[N]`: the mean of the cross-entropies of its row and its column.

    CLIP (Radford et al. 2021), figure 3. Pair i is row i and column i of `logits [N, N]`. Where
    `keep [N]` is False, a pair is no negative of another, and its own loss is 0.
    """
    n = len(logits)
    matching = mx.diagonal(logits)
    if keep is None:
        over_rows, over_columns = logits, logits
    else:
        eye = mx.eye(n, dtype=mx.bool_)
        over_rows = mx.where(keep[None, :] | eye, logits, -1e30)
        over_columns = mx.where(keep[:, None] | eye, logits, -1e30)
    losses = 0.5 * (mx.logsumexp(over_rows, axis=1) + mx.logsumexp(over_columns, axis=0)) - matching
    return losses if keep is None else mx.where(keep, losses, 0.0)


def siglip_losses(logits: Array, keep: Array | None = None) -> Array:
    """The loss of each row, `[N]`: `-sum_j log sigmoid(y_ij z_ij)`, y = 1 at j = i, else -1.

    SigLIP (Zhai et al. 2023), algorithm 1; the loss of a batch is the mean over its N rows, not
    over its N² pairs. Where `keep [N]` is False, a pair takes no part.
    """
    signs = 2.0 * mx.eye(len(logits)) - 1.0
    losses = mx.logaddexp(0.0, -signs * logits)
    if keep is not None:
        losses = mx.where(keep[:, None] & keep[None, :], losses, 0.0)
    return losses.sum(axis=1)
