"""Softmax attention over a union of key sets, each computed in an arrangement of its own.

Sparse patterns let a query read a few sets of keys that don't overlap: a window, every l-th key,
the global tokens. `attend` computes the softmax over one set, as a small dense product for each
block of queries, and keeps its log-sum-exp; `union` combines sets into the softmax over all of
their keys.

Shapes: a sequence is `[..., T, K]`; in blocks it is `[..., N, n, K]`. Positions, document ids and
padding are arranged by the same functions as the vectors they belong to (`Tokens`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx

from .device import upcast
from .softcap import soft_cap
from .sums import row_max

EMPTY = -1e30
"""Log-sum-exp of a query without visible keys in a set."""

Rule = Callable[[mx.array, mx.array], mx.array]
"""`(query positions, key positions) -> bool`, broadcast against each other."""


class KeySet(NamedTuple):
    """Attention over one set of keys: `out [..., n, V]` and `lse [..., n, 1]`, in float32."""

    out: mx.array
    lse: mx.array

    def arranged(self, arrange: Callable[[mx.array], mx.array]) -> "KeySet":
        """The same with both arrays rearranged."""
        return KeySet(arrange(self.out), arrange(self.lse))


@dataclass(frozen=True, eq=False)
class Tokens:
    """Facts about the tokens of a sequence, by which a query sees keys.

    Attributes:
        index: positions `[..., n, 1]` as integers, -1 where an arrangement has no token.
        segments: document ids `[B, 1, ..., n, 1]`; None: one document.
        valid: whether a token is not padding, `[B, 1, ..., n, 1]`; None: no padding.
    """

    index: mx.array
    segments: mx.array | None = None
    valid: mx.array | None = None

    @classmethod
    def of(cls, length: int, segments: mx.array | None, valid: mx.array | None) -> "Tokens":
        """The tokens of rows of `length`, of `segments` and `valid [B, T]`."""
        column = [None if a is None else a[:, None, :, None] for a in (segments, valid)]
        return cls(mx.arange(length)[:, None], *column)

    def arranged(self, arrange: Callable[[mx.array, int], mx.array]) -> "Tokens":
        """The same tokens, rearranged by `arrange(x [..., T, 1], fill)`."""
        segments = None if self.segments is None else arrange(self.segments, -1)
        valid = None if self.valid is None else arrange(self.valid, 0)
        return Tokens(arrange(self.index, -1), segments, valid)

    def mask_to(self, keys: "Tokens", *, causal: bool, rule: Rule | None = None) -> mx.array:
        """Mask of these queries on keys, True where a key is attended to.

        `[..., n, M]`, or `[B, 1, ..., n, M]` with facts of rows.

        Keys that aren't there, padding and other documents are hidden, whatever the rule.
        """
        k = keys.index.swapaxes(-1, -2)
        allowed = (k >= 0) & (self.index >= k) if causal else (k >= 0) & (self.index >= -1)
        if rule is not None:
            allowed = allowed & rule(self.index, k)
        if self.segments is not None and keys.segments is not None:
            allowed = allowed & (self.segments == keys.segments.swapaxes(-1, -2))
        if keys.valid is not None:
            allowed = allowed & (keys.valid != 0).swapaxes(-1, -2)
        return allowed


def attend(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    seen: mx.array | None,
    bias: mx.array | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    key: mx.array | None = None,
) -> KeySet:
    """Attention over one set of keys.

    Args:
        q, k, v: `[..., n, K]`, `[..., M, K]`, `[..., M, V]`, whose leading axes broadcast.
        scale: factor of the scores.
        seen: which keys each query sees, broadcastable to `[..., n, M]`; None: all.
        bias: added to the scores, broadcastable to `[..., n, M]`.
        softcap: soft cap of the scores.
        dropout: dropout on the attention weights, drawn from the PRNG `key`.
    """
    scores = soft_cap((upcast(q) * scale) @ upcast(k).swapaxes(-1, -2), softcap)
    if bias is not None:
        scores = scores + upcast(bias)
    if seen is not None:
        scores = mx.where(seen, scores, EMPTY)
    top = mx.stop_gradient(row_max(scores))
    e = mx.exp(scores - top)
    if seen is not None:
        e = mx.where(seen, e, 0.0)
    total = e.sum(axis=-1, keepdims=True)
    some = total > 0
    total = mx.where(some, total, 1.0)
    lse = mx.where(some, top + mx.log(total), EMPTY)
    if dropout > 0.0:
        if key is None:
            raise ValueError("Attention dropout needs a PRNG key.")
        keep = mx.random.bernoulli(1.0 - dropout, e.shape, key=mx.stop_gradient(key))
        e = mx.where(keep, e * (1.0 / (1.0 - dropout)), 0.0)
    return KeySet((e / total) @ upcast(v), lse)


def union(sets: list[KeySet], sinks: mx.array | None = None) -> mx.array:
    """Attention over the union of disjoint key sets, `[..., V]` in float32.

    Args:
        sets: their attention, in one arrangement.
        sinks: scores of a key without a value, broadcastable to an `lse`.

    Each set weighs by its share of the sum of exponentials. A query without keys gets zeros.
    """
    scores = [s.lse for s in sets] + ([] if sinks is None else [upcast(sinks)])
    top = scores[0]
    for score in scores[1:]:
        top = mx.maximum(top, score)
    top = mx.stop_gradient(top)
    shares = [mx.exp(score - top) for score in scores]
    total = sum(shares[1:], shares[0])
    parts = [share * s.out for share, s in zip(shares, sets, strict=False)]
    return sum(parts[1:], parts[0]) / total


def blocks(x: mx.array, size: int, fill: int = 0) -> mx.array:
    """`[..., T, K]` as blocks `[..., N, size, K]`, filled up at the end."""
    *lead, length, width = x.shape
    n = -(-length // size)
    return padded(x, 0, n * size - length, fill).reshape(*lead, n, size, width)


def unblocked(x: mx.array, length: int) -> mx.array:
    """Blocks `[..., N, n, K]` as `[..., T, K]`, the inverse of `blocks`."""
    *lead, n, size, width = x.shape
    return x.reshape(*lead, n * size, width)[..., :length, :]


def neighbours(x: mx.array, back: int, ahead: int, fill: int = 0) -> mx.array:
    """Each block of `[..., N, n, K]` joined with the `back` blocks before and `ahead` after it:
    `[..., N, (back + 1 + ahead) * n, K]`."""
    *lead, n, size, width = x.shape
    flat = padded(x.reshape(*lead, n * size, width), back * size, ahead * size, fill)
    wide = flat.reshape(*lead, n + back + ahead, size, width)
    shifted = [wide[..., i : i + n, :, :] for i in range(back + 1 + ahead)]
    return mx.concatenate(shifted, axis=-2)


def residues(x: mx.array, step: int, fill: int = 0) -> mx.array:
    """`[..., T, K]` as its residue classes `[..., step, T / step, K]`: class r has the tokens r,
    r + step, r + 2 step, ..., filled up at the end."""
    return blocks(x, step, fill).swapaxes(-2, -3)


def unite_residues(x: mx.array, length: int) -> mx.array:
    """Residue classes `[..., step, T / step, K]` as `[..., T, K]`, the inverse of `residues`."""
    return unblocked(x.swapaxes(-2, -3), length)


def padded(x: mx.array, before: int, after: int, fill: int = 0) -> mx.array:
    """`[..., T, K]` with tokens of `fill` before and after."""
    if not before and not after:
        return x
    lengths = [(0, 0)] * (x.ndim - 2) + [(before, after), (0, 0)]
    return mx.pad(x, lengths, constant_values=mx.array(fill, x.dtype))
