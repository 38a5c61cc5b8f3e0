"""Rows of tokens cut into chunks, for recurrences that train by matrix products.

A linear recurrence over T tokens becomes products within chunks of M tokens and a recurrence over
T / M states (Hua et al. 2022, FLASH; Sun et al. 2023, RetNet, equation 7). Work and memory are
linear in T.
"""

from dataclasses import dataclass

import mlx.core as mx

from .custom_vjp import custom_vjp
from .sums import row_sum

CHUNK = 64
MASKED = -1e30


@dataclass(frozen=True)
class Chunks:
    """N chunks of M tokens that hold a row of `length`; the last one is filled with zeros.

    Attributes:
        length: tokens T of a row.
        limit: tokens of a chunk at most, a power of two.
        starts: `[B, T]`, True at the first token of a document, which reads no state from before;
            None: the row continues one document.
    """

    length: int
    limit: int = CHUNK
    starts: mx.array | None = None

    def __post_init__(self) -> None:
        if self.limit < 1 or self.limit & (self.limit - 1):
            raise ValueError(f"A chunk has a power of two tokens, not {self.limit}.")

    @property
    def size(self) -> int:
        """Tokens M of a chunk."""
        return min(self.limit, 1 << (self.length - 1).bit_length())

    @property
    def count(self) -> int:
        """Chunks N of a row."""
        return -(-self.length // self.size)

    def split(self, x: mx.array) -> mx.array:
        """`[B, H, T, ...]` as `[N, B, H, M, ...]`: a chunk lies in one piece of memory."""
        missing = self.count * self.size - self.length
        if missing:
            x = mx.pad(x, [(0, 0), (0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 3))
        x = x.reshape(*x.shape[:2], self.count, self.size, *x.shape[3:])
        return mx.contiguous(mx.moveaxis(x, 2, 0))

    def join(self, x: mx.array) -> mx.array:
        """`[N, B, H, M, V]` as `[B, H, T, V]`."""
        x = mx.moveaxis(x, 0, 2)
        return x.reshape(*x.shape[:2], -1, x.shape[-1])[:, :, : self.length]

    def pairs(self, *, itself: bool = True) -> mx.array:
        """Whether a token reads another of its chunk, `[M, M]` or `[N, B, 1, M, M]`.

        Args:
            itself: whether it reads itself too.
        """
        index = mx.arange(self.size)
        visible = index[:, None] >= index[None] if itself else index[:, None] > index[None]
        if self.starts is None:
            return visible
        document = self._documents()
        return visible & (document[..., :, None] == document[..., None, :])

    def reading(self, x: mx.array) -> mx.array:
        """`x [N, B, H, M, K]` with zeros for tokens that don't read the chunk's first state."""
        if self.starts is None:
            return x
        return mx.where((self._documents() == 0)[..., None], x, 0.0)

    def writing(self, x: mx.array) -> mx.array:
        """`x [N, B, H, M, K]` with zeros for tokens that the chunk's last state doesn't hold."""
        if self.starts is None:
            return x
        document = self._documents()
        return mx.where((document == document[..., -1:])[..., None], x, 0.0)

    def carrying(self, x: mx.array) -> mx.array:
        """`x [N, B, H, 1 or K, 1]` with zeros for chunks in which a document starts."""
        if self.starts is None:
            return x
        return mx.where((self._documents()[..., -1:] == 0)[..., None], x, 0.0)

    def _documents(self) -> mx.array:
        """The number of starts in the chunk up to each token, `[N, B, 1, M]`."""
        assert self.starts is not None
        return mx.cumsum(self.split(self.starts[:, None].astype(mx.int32)), axis=-1)


def document_starts(segments: mx.array | None) -> mx.array | None:
    """The first tokens of documents but the row's first, `[B, T]`, from their ids `[B, T]`."""
    if segments is None:
        return None
    return mx.pad(segments[:, 1:] != segments[:, :-1], [(0, 0), (1, 0)])


def decayed_scores(
    q: mx.array, k: mx.array, until: mx.array, since: mx.array, seen: mx.array, heads: int = 1
) -> mx.array:
    """`Σ_d q_i[d] k_j[d] exp(until_i[d] - since_j[d])` of the pairs in chunks, zero if not `seen`.

    No exponent is positive where decays are at most 1. With a decay per feature, two neighbouring
    spans of tokens meet at the border between them, to which the queries of the second and the keys
    of the first decay apart, at every level from single tokens to halves of the chunk (a finer form
    of the secondary chunks of Yang et al. 2024, GLA, section 4.3).

    Args:
        q, k: `[N, B, G, M, K]`.
        until, since: the sums of log-decays that queries and keys stand at, `[..., M, 1 or K]`.
        seen: `[..., M, M]`, where `j <= i` at most.
        heads: how many heads share the queries and keys of a group.

    Returns:
        `[N, B, G * heads, M, M]`.
    """
    if until.shape[-1] == 1:
        return mx.repeat(q @ k.mT, heads, axis=2) * pair_decays(until, since, seen)
    q, k = (mx.repeat(x, heads, axis=2) for x in (q, k))
    scores: mx.array = custom_vjp(_feature_scores, _feature_scores_vjp)(q, k, until, since)
    return mx.where(seen, scores, 0.0)


def pair_decays(until: mx.array, since: mx.array, seen: mx.array) -> mx.array:
    """`exp(until_i - since_j)` of `until`, `since [..., M, 1]`, zero if not `seen`: `[..., M, M]`.

    The mask is added to exponents: a fused kernel that chooses by booleans takes three times as
    long.
    """
    return mx.exp(until - since.mT + mx.where(seen, 0.0, MASKED))


def _feature_scores(q: mx.array, k: mx.array, until: mx.array, since: mx.array) -> mx.array:
    """`decayed_scores` with a decay per feature, of all pairs with `j <= i`."""
    scores, span = row_sum(q * k * _own_decay(until, since))[..., None], 1
    while span < q.shape[-2]:
        to_border, from_border = decays_to_border(until, since, span)
        later = halves(q, span)[..., 1, :, :] * to_border
        earlier = halves(k, span)[..., 0, :, :] * from_border
        across = later @ earlier.swapaxes(-1, -2)
        parts = scores.reshape(*across.shape[:-2], 2, span, span)
        scores = lower_blocks(parts[..., 0, :, :], across, parts[..., 1, :, :])
        span *= 2
    return scores[..., 0, :, :]


def _feature_scores_vjp(
    primals: tuple[mx.array, ...], cotangent: mx.array, _: mx.array
) -> tuple[mx.array, ...]:
    """Gradients level by level; those of the exponents are products with q and k of the others."""
    q, k, until, since = primals
    size = q.shape[-2]
    near = _own_decay(until, since) * mx.diagonal(cotangent, axis1=-2, axis2=-1)[..., None]
    dq, dk, span = k * near, q * near, 1
    while span < size:
        to_border, from_border = decays_to_border(until, since, span)
        later = halves(q, span)[..., 1, :, :] * to_border
        earlier = halves(k, span)[..., 0, :, :] * from_border
        across = diagonal_blocks(cotangent, 2 * span)[..., span:, :span]
        d_later = (across @ earlier) * to_border
        d_earlier = (across.swapaxes(-1, -2) @ later) * from_border
        zeros = mx.zeros_like(d_later)
        dq = dq + mx.stack([zeros, d_later], axis=-3).reshape(q.shape)
        dk = dk + mx.stack([d_earlier, zeros], axis=-3).reshape(k.shape)
        span *= 2
    return dq, dk, q * dq, -k * dk


def _own_decay(until: mx.array, since: mx.array) -> mx.array:
    """The weight of a token's own key; where a query stands before it, the pair isn't seen."""
    return mx.exp(mx.minimum(until - since, 0.0))


def halves(x: mx.array, span: int) -> mx.array:
    """`[..., M, K]` as `[..., M / 2 span, 2, span, K]`."""
    return x.reshape(*x.shape[:-2], -1, 2, span, x.shape[-1])


def decays_to_border(until: mx.array, since: mx.array, span: int) -> tuple[mx.array, mx.array]:
    """Decays of second halves back to the border of their span, and of first halves up to it."""
    until, since = halves(until, span), halves(since, span)
    border = since[..., 0, -1:, :]
    return mx.exp(until[..., 1, :, :] - border), mx.exp(border - since[..., 0, :, :])


def diagonal_blocks(x: mx.array, width: int) -> mx.array:
    """The blocks on the diagonal of `x [..., M, M]`, `[..., M / width, width, width]`."""
    n = x.shape[-1] // width
    tiles = x.reshape(*x.shape[:-2], n, width, n, width)
    return mx.diagonal(tiles, axis1=-4, axis2=-2).transpose(*range(x.ndim - 2), -1, -3, -2)


def lower_blocks(first: mx.array, across: mx.array, second: mx.array) -> mx.array:
    """`[[first, 0], [across, second]]` of blocks `[..., n, n]`."""
    top = mx.concatenate([first, mx.zeros_like(across)], axis=-1)
    bottom = mx.concatenate([across, second], axis=-1)
    return mx.concatenate([top, bottom], axis=-2)


def chunk_states(
    carry: mx.array, write: mx.array, state: mx.array, *, matrix: bool = False
) -> tuple[mx.array, mx.array]:
    """The recurrence over chunks, `S_n = carry_n S_{n-1} + write_n`, and its backward as one too.

    Args:
        carry: `[N, B, H, K, K]` if `matrix`; else factors, `[N, B, H, 1 or K, 1]`.
        write: what each chunk adds, `[N, B, H, K, V]`.
        state: the first state, `[B, H, K, V]`.

    Returns:
        The state before each chunk, `[N, B, H, K, V]`, and the last one.
    """
    carry = mx.broadcast_to(carry, (*write.shape[:3], *carry.shape[3:]))

    def times(factor: mx.array, s: mx.array) -> mx.array:
        return factor @ s if matrix else factor * s

    def forward(carry: mx.array, write: mx.array, state: mx.array) -> list[mx.array]:
        before = []
        for n in range(write.shape[0]):
            before.append(state)
            state = times(carry[n], state) + write[n]
        return [mx.stack(before), state]

    def backward(
        primals: tuple[mx.array, ...], cotangents: list[mx.array], outputs: list[mx.array]
    ) -> tuple[mx.array, ...]:
        return chunk_states_vjp(primals[0], outputs[0], *cotangents, matrix=matrix)

    before, last = custom_vjp(forward, backward)(carry, write, state)
    return before, last


def chunk_states_vjp(
    carry: mx.array,
    before: mx.array,
    d_before: mx.array,
    d_last: mx.array,
    *,
    matrix: bool = False,
) -> tuple[mx.array, mx.array, mx.array]:
    """The gradients of `chunk_states`, from its states and their gradients.

    Returns:
        Those of each chunk's carry `[N, B, H, 1 or K, 1]`, or `[N, B, H, K, K]` if `matrix`, of its
        write, and of the first state.
    """
    flow, d_write = d_last, []
    for n in reversed(range(carry.shape[0])):
        d_write.append(flow)
        flow = (carry[n].mT @ flow if matrix else carry[n] * flow) + d_before[n]
    flows = mx.stack(d_write[::-1])
    if matrix:
        return flows @ before.mT, flows, flow
    d_carry = row_sum(flows * before)
    if carry.shape[-2] == 1:
        d_carry = d_carry.sum(axis=-2, keepdims=True)
    return d_carry, flows, flow


def score_flops(
    size: int, key_dim: int, n_heads: int, groups: int | None, per_feature: bool
) -> float:
    """Operations per token of the products of `decayed_scores`, in chunks of `size` tokens.

    Args:
        groups: heads of queries and keys; None: as many as values.
        per_feature: whether each feature of the keys has its own decay.
    """
    if per_feature:
        return n_heads * (size + 2.0) * key_dim
    return 2.0 * size * key_dim * (groups or n_heads)
