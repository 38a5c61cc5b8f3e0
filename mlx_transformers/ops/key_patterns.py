"""Sparse patterns of keys in blocks: windows, local blocks, factorised sets, first tokens.

Every function returns the attention of queries `[B, H, T, K]` over one set of keys. `attend` is the
softmax over a set of arranged arrays, `(q, k, v, mask) -> KeySet`, with the scale, bias and dropout
of the caller; `tokens` are the facts of the rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .key_sets import (
    KeySet,
    Rule,
    Tokens,
    blocks,
    neighbours,
    padded,
    residues,
    unblocked,
    unite_residues,
)
from .neighbours import look_around

Attend = Callable[[mx.array, mx.array, mx.array, mx.array], KeySet]
QKV = tuple[mx.array, mx.array, mx.array]


def joined_blocks(
    attend: Attend,
    tokens: Tokens,
    qkv: QKV,
    *,
    size: int,
    back: int,
    ahead: int,
    causal: bool,
    rule: Rule | None = None,
    ring: bool = False,
    pad_to: int | None = None,
) -> KeySet:
    """Attention of each block of `size` queries over its own keys, those of `back` blocks before it
    and of `ahead` blocks after it (none if causal), as far as `rule` lets them be seen. In a `ring`
    the first block follows the last, after padding to a multiple of `pad_to`."""
    length, ahead = qkv[0].shape[-2], 0 if causal else ahead
    ring = ring and size < length

    def joined(x: mx.array, fill: int = 0) -> mx.array:
        return look_around(x, back, ahead, axis=-3) if ring else neighbours(x, back, ahead, fill)

    missing = -length % pad_to if ring and pad_to else 0

    def cut(x: mx.array, fill: int = 0) -> mx.array:
        return blocks(padded(x, 0, missing, fill), size, fill)

    q = cut(qkv[0])
    k, v = (joined(cut(x)) for x in qkv[1:])
    query_tokens = tokens.arranged(cut)
    around = query_tokens.arranged(joined)
    attended = attend(q, k, v, query_tokens.mask_to(around, causal=causal, rule=rule))
    return attended.arranged(lambda x: unblocked(x, length))


def windowed(
    attend: Attend,
    tokens: Tokens,
    qkv: QKV,
    *,
    window: int,
    causal: bool,
    rule: Rule | None = None,
) -> KeySet:
    """Attention over the keys less than `window` positions away, in blocks of that size."""

    def near(q: mx.array, k: mx.array) -> mx.array:
        within = mx.abs(q - k) < window
        return within if rule is None else within & rule(q, k)

    size = min(window, qkv[0].shape[-2])
    return joined_blocks(attend, tokens, qkv, size=size, back=1, ahead=1, causal=causal, rule=near)


def dilated_window(
    attend: Attend, tokens: Tokens, qkv: QKV, *, window: int, dilation: int, causal: bool
) -> KeySet:
    """Attention over the keys less than `window` steps of `dilation` positions away."""
    if dilation == 1:
        return windowed(attend, tokens, qkv, window=window, causal=causal)
    q, k, v = (residues(x, dilation) for x in qkv)
    attended = joined_blocks(
        attend,
        tokens.arranged(lambda x, fill: residues(x, dilation, fill)),
        (q, k, v),
        size=min(window, q.shape[-2]),
        back=1,
        ahead=1,
        causal=causal,
        rule=lambda q, k: mx.abs(q - k) < window * dilation,
    )
    return attended.arranged(lambda x: unite_residues(x, qkv[0].shape[2]))


def by_heads(dilations: Sequence[int], run: Callable[[QKV, int], KeySet], qkv: QKV) -> KeySet:
    """`run(qkv, dilation)` for the heads of each dilation, in the order of the heads."""
    kinds = sorted(set(dilations))
    if len(kinds) == 1:
        return run(qkv, kinds[0])
    heads = [np.flatnonzero(np.array(dilations) == each) for each in kinds]
    back = mx.array(np.argsort(np.concatenate(heads)))
    results = []
    for dilation, group in zip(kinds, heads, strict=True):
        q, k, v = (mx.take(x, mx.array(group), axis=1) for x in qkv)
        results.append(run((q, k, v), dilation))
    together = (mx.concatenate(list(each), axis=1) for each in zip(*results, strict=True))
    return KeySet(*(mx.take(each, back, axis=1) for each in together))


def take_blocks(x: mx.array, fill: int = 0, *, at: Sequence[int]) -> mx.array:
    """Some blocks of `[..., N, n, K]` as one, `[..., len(at) * n, K]`."""
    return mx.concatenate([x[..., i, :, :] for i in at], axis=-2)


def read_blocks(x: mx.array, fill: int = 0, *, at: np.ndarray) -> mx.array:
    """For each head and block of queries, its own r blocks `at [H, M, r]` of `[B, H, N, n, K]`, or
    of facts `[N, n, 1]` or `[B, 1, N, n, 1]`, as one: `[B, H, M, r * n, K]`."""
    n_heads, rows, count = at.shape
    *lead, n, size, width = x.shape
    if x.ndim < 5 or x.shape[1] == 1:
        picked = mx.take(x, mx.array(at.reshape(-1)), axis=-3)
        lead = [x.shape[0] if x.ndim == 5 else 1]
        return picked.reshape(*lead, n_heads, rows, count * size, width)
    flat = mx.array((at + n * np.arange(n_heads)[:, None, None]).reshape(-1))
    picked = mx.take(x.reshape(x.shape[0], n_heads * n, size, width), flat, axis=1)
    return picked.reshape(x.shape[0], n_heads, rows, count * size, width)


@dataclass(frozen=True)
class Factorised:
    """The near and far keys of Sparse Transformers (Child et al. 2019, section 4.3).

    `strided`: near keys are less than `stride` away, far ones a multiple of it.
    `fixed`: near keys are in the query's own block of `stride` tokens; far ones are `summary` keys
    of every block, its last ones, or those c before them in each next head of `verts`.

    Attributes:
        kind: `strided` or `fixed`.
        stride: length of a block.
        summary: summary keys of a block.
        verts: groups of heads with summary keys of their own: head h has those of `h mod verts`.
    """

    kind: str
    stride: int
    summary: int = 1
    verts: int = 1

    def is_near(self, q: mx.array, k: mx.array) -> mx.array:
        """Whether keys are near, by positions that broadcast against each other."""
        if self.kind == "strided":
            return mx.abs(q - k) < self.stride
        return q // self.stride == k // self.stride

    def is_far(self, q: mx.array, k: mx.array, head: mx.array | int = 0) -> mx.array:
        """Whether keys are far ones of a head, likewise."""
        if self.kind == "strided":
            return mx.abs(q - k) % self.stride == 0
        end = self.stride - head % self.verts * self.summary
        place = k % self.stride + 0 * q
        return (place >= end - self.summary) & (place < end)

    def near(self, attend: Attend, tokens: Tokens, qkv: QKV, *, causal: bool) -> KeySet:
        """Attention over the near keys."""
        around = 1 if self.kind == "strided" else 0
        return joined_blocks(
            attend,
            tokens,
            qkv,
            size=self.stride,
            back=around,
            ahead=around,
            causal=causal,
            rule=self.is_near,
        )

    def far(
        self, attend: Attend, tokens: Tokens, qkv: QKV, *, causal: bool, alone: bool = True
    ) -> KeySet:
        """Attention over the far keys; without those that are near too unless `alone`."""
        rule = None if alone else self._not_near
        if self.kind == "fixed":
            return self._summaries(attend, tokens, qkv, causal, rule)
        length = qkv[0].shape[2]
        cut = tokens.arranged(lambda x, fill: residues(x, self.stride, fill))
        q, k, v = (residues(x, self.stride) for x in qkv)
        attended = attend(q, k, v, cut.mask_to(cut, causal=causal, rule=rule))
        return attended.arranged(lambda x: unite_residues(x, length))

    def _not_near(self, q: mx.array, k: mx.array) -> mx.array:
        return ~self.is_near(q, k)

    def _summaries(
        self, attend: Attend, tokens: Tokens, qkv: QKV, causal: bool, rule: Rule | None
    ) -> KeySet:
        """Attention over the summary keys of every block, by groups of heads."""
        n_heads = qkv[0].shape[1]
        parts = []
        for vert in range(min(self.verts, n_heads)):
            end = self.stride - vert * self.summary

            def last(x: mx.array, fill: int = 0, end: int = end) -> mx.array:
                picked = blocks(x, self.stride, fill)[..., end - self.summary : end, :]
                return picked.flatten(-3, -2)

            q, k, v = (x[:, vert :: self.verts] for x in qkv)
            mask = tokens.mask_to(tokens.arranged(last), causal=causal, rule=rule)
            parts.append(attend(q, last(k), last(v), mask))
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.arange(n_heads) % self.verts, kind="stable")  # heads as found
        back = mx.array(np.argsort(order))
        together = (mx.concatenate(list(arrays), axis=1) for arrays in zip(*parts, strict=True))
        return KeySet(*(mx.take(array, back, axis=1) for array in together))


def first_tokens(
    attend: Attend,
    tokens: Tokens,
    qkv: QKV,
    *,
    first: int,
    starts: mx.array | None,
    causal: bool,
    rule: Rule,
) -> KeySet:
    """Attention over the `first` keys of each query's document.

    Args:
        attend, tokens, qkv: as everywhere here.
        first: number of keys.
        starts: `[B, T]`, the index of the first token of each token's document; None: 0.
        causal: whether a query sees no key after itself.
        rule: which of them a query sees.
    """
    q, k, v = qkv
    if starts is None:
        head = tokens.arranged(lambda x, fill: x[..., :first, :])
        mask = tokens.mask_to(head, causal=causal, rule=rule)
        return attend(q, k[:, :, :first], v[:, :, :first], mask)
    # one query at a time, since each has the keys of its own document
    place = mx.minimum(starts[..., None] + mx.arange(first), k.shape[2] - 1)
    segments = None if tokens.segments is None else _read(tokens.segments, place)
    valid = None if tokens.valid is None else _read(tokens.valid, place)
    head = Tokens(place[:, None, :, :, None], segments, valid)
    each = tokens.arranged(lambda x, fill: x[..., None, :])
    mask = each.mask_to(head, causal=causal, rule=rule)
    attended = attend(q[..., None, :], _read(k, place), _read(v, place), mask)
    return attended.arranged(lambda x: x.squeeze(-2))


def _read(x: mx.array, place: mx.array) -> mx.array:
    """The tokens at `place [B, T, n]` of `x [B, H, S, K]`: `[B, H, T, n, K]`."""
    batch = mx.arange(x.shape[0])[:, None, None]
    return x.swapaxes(1, 2)[batch, place].transpose(0, 3, 1, 2, 4)
