"""Attention by locality-sensitive hashing (Reformer): each query attends near ones in hash order.

Kitaev et al. 2020, section 2 and appendix A. Where paper and code leave a choice, the numbers are
those of reformer-pytorch 1.4.4, which follows trax.
"""

from dataclasses import dataclass

import mlx.core as mx

from .neighbours import look_around
from .sums import row_max

SELF_SCORE = -5e4
"""Score of a position with itself, below all others but above masked ones."""


def hash_buckets(x: mx.array, rotations: mx.array, factors: list[int]) -> mx.array:
    """The buckets of vectors `x [..., T, K]` in R rounds: `argmax([x R; -x R])`, `[..., R, T]`.

    Andoni et al. 2015. Of equal maxima the first counts. With several factors a bucket is a number
    whose digits are hashes of their own, of the consecutive parts of `rotations`.

    Args:
        x: vectors; no gradient flows through their hashes.
        rotations: `[..., K, R, N / 2]`, N the sum of the factors.
        factors: even numbers whose product is the number of buckets.
    """
    x, (K, R, half) = mx.stop_gradient(x), rotations.shape[-3:]
    flat = rotations.reshape(*rotations.shape[:-3], K, R * half)
    rotated = (x.astype(mx.float32) @ flat).reshape(*x.shape[:-1], R, half).swapaxes(-2, -3)
    buckets, start, place = mx.zeros(rotated.shape[:-1], mx.int32), 0, 1
    for factor in factors:
        part = rotated[..., start : start + factor // 2]
        digit = mx.argmax(mx.concatenate([part, -part], axis=-1), axis=-1)
        buckets = buckets + place * digit.astype(mx.int32)
        start, place = start + factor // 2, place * factor
    return buckets


@dataclass(frozen=True)
class LshPattern:
    """Keys that a query attends, given the hashes.

    Attributes:
        chunk: positions of a chunk M.
        before, after: chunks before and after its own that a query attends. The order is a ring of
            all rounds, so the first chunk of a round follows the last of the round before.
        causal: whether a position sees only itself and its past.
        across_buckets: whether neighbours in other buckets are seen.
        duplicates: whether a pair that n rounds see counts n times. Otherwise `log(n + 1e-9)` is
            subtracted from its score; n counts no pair across the seam between rounds.
    """

    chunk: int
    before: int = 1
    after: int = 0
    causal: bool = False
    across_buckets: bool = True
    duplicates: bool = True


def lsh_attention(
    qk: mx.array,
    v: mx.array,
    buckets: mx.array,
    pattern: LshPattern,
    *,
    scale: float,
    eps: float = 0.0,
    valid: mx.array | None = None,
    segments: mx.array | None = None,
    dropout: float = 0.0,
    key: mx.array | None = None,
) -> mx.array:
    """Attention within chunks of the order by bucket and position, over all rounds of hashing.

    Keys are the queries divided by their norms. A position attends itself only where it sees no
    other. Rounds are weighed by their normalisers `Σ exp(score)`.

    Args:
        qk: queries, which are the keys too, `[..., T, K]`; T is a multiple of the chunk.
        v: values `[..., T, W]`.
        buckets: `[..., R, T]` from `hash_buckets`.
        pattern: the keys of a query.
        scale: factor of the scores of queries and keys of norm 1.
        eps: added to the mean square of a query before its key is divided by the norm.
        valid: `[..., T]` whether a position is not padding.
        segments: `[..., T]` document ids; a position sees only its own document.
        dropout, key: dropout on the weights, and its PRNG key.
    """
    rows = _HashOrder(buckets, pattern)
    q = rows.chunked(qk).astype(mx.float32)
    scores = scale * q @ rows.around(shared_keys(q, eps)).swapaxes(-1, -2)
    scores = _masked(scores, rows, valid, segments)
    top = mx.stop_gradient(row_max(scores))
    weights = mx.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    shares = weights / total
    if dropout and key is not None:
        dropout_mask = mx.random.bernoulli(1.0 - dropout, shares.shape, key=key)
        shares = mx.where(dropout_mask, shares / (1.0 - dropout), 0.0)
    y = rows.back(shares @ rows.around(rows.chunked(v).astype(mx.float32)))
    strength = rows.back(top + mx.log(total))
    return (mx.softmax(strength, axis=-3) * y).sum(axis=-3).astype(v.dtype)


class _HashOrder:
    """The order of positions by bucket, in chunks of all rounds.

    Args:
        buckets: `[..., R, T]`.
        pattern: the sizes of chunks and neighbourhoods.
    """

    def __init__(self, buckets: mx.array, pattern: LshPattern) -> None:
        *self.lead, self.rounds, self.length = buckets.shape
        self.buckets, self.pattern = buckets, pattern
        self.n_chunks = self.rounds * self.length // pattern.chunk
        self.order = mx.argsort(buckets * self.length + mx.arange(self.length), axis=-1)
        self.place = mx.argsort(self.order, axis=-1)

    def chunked(self, x: mx.array) -> mx.array:
        """Rows of `x [..., T, W]` in the order, `[..., C, M, W]`."""
        x = mx.broadcast_to(x, (*self.lead, *x.shape[-2:]))
        flat = self.order.reshape(*self.lead, -1, 1)
        return self._cut(mx.take_along_axis(x, flat, axis=-2))

    def around(self, x: mx.array) -> mx.array:
        """Each chunk of `x [..., C, M, W]` joined with those that its queries attend."""
        return look_around(x, self.pattern.before, self.pattern.after, axis=-3)

    def back(self, x: mx.array) -> mx.array:
        """Rows of `x [..., C, M, W]` at their positions, `[..., R, T, W]`."""
        x = x.reshape(*self.lead, self.rounds, self.length, x.shape[-1])
        return mx.take_along_axis(x, self.place[..., None], axis=-2)

    def own_buckets(self) -> mx.array:
        """The bucket by which each position was sorted, as a number of its round alone,
        `[..., C, M, 1]`."""
        bucket_of_round = self.buckets * self.rounds + mx.arange(self.rounds)[:, None]
        return self._cut(mx.take_along_axis(bucket_of_round, self.order, axis=-1)[..., None])

    def times_seen(self) -> mx.array:
        """How many rounds see each pair of a chunk and its neighbourhood, `[..., C, M, S]`."""
        first = mx.arange(self.rounds)[:, None] * self.length
        homes = self.chunked((self.place + first).swapaxes(-1, -2) // self.pattern.chunk)
        theirs = self.around(homes)
        by_bucket = not self.pattern.across_buckets
        bucket = self.chunked(self.buckets.swapaxes(-1, -2)) if by_bucket else homes
        key_buckets = self.around(bucket)
        counts = mx.array(0.0)
        for r in range(self.rounds):
            for step in range(-self.pattern.after, self.pattern.before + 1):
                sees = homes[..., r, None] == (theirs[..., None, :, r] + step) % self.n_chunks
                if by_bucket:
                    sees = sees & (bucket[..., r, None] == key_buckets[..., None, :, r])
                counts = counts + sees.astype(mx.float32)
        return counts

    def _cut(self, x: mx.array) -> mx.array:
        return x.reshape(*self.lead, self.n_chunks, self.pattern.chunk, x.shape[-1])


def _masked(
    scores: mx.array, rows: _HashOrder, valid: mx.array | None, segments: mx.array | None
) -> mx.array:
    """Scores `[..., C, M, S]` with the lowest number where a pair isn't seen."""
    low, pattern = mx.finfo(scores.dtype).min, rows.pattern
    if valid is not None:
        real = rows.chunked(valid[..., None])
        scores = mx.where(real & rows.around(real).swapaxes(-1, -2), scores, low)
    if segments is not None:
        document = rows.chunked(segments[..., None])
        scores = mx.where(document == rows.around(document).swapaxes(-1, -2), scores, low)
    at = rows.chunked(mx.arange(rows.length)[:, None])
    at_keys = rows.around(at).swapaxes(-1, -2)
    if pattern.causal:
        scores = mx.where(at < at_keys, low, scores)
    scores = mx.where(at == at_keys, SELF_SCORE, scores)
    if not pattern.across_buckets:
        buckets = rows.own_buckets()
        scores = mx.where(buckets == rows.around(buckets).swapaxes(-1, -2), scores, low)
    return scores if pattern.duplicates else scores - mx.log(rows.times_seen() + 1e-9)


def shared_keys(q: mx.array, eps: float = 0.0) -> mx.array:
    """Keys of norm 1 from queries `[..., K]`, `q / √(K (mean(q²) + eps))`, in float32."""
    q = q.astype(mx.float32)
    mean = q.square().mean(axis=-1, keepdims=True)
    scale: float = q.shape[-1] ** -0.5
    return q * mx.rsqrt(mean + max(eps, 1e-30)) * scale
