"""Rows of tokens cut into chunks, for recurrences that train by matrix products.

A linear recurrence over T tokens becomes products within chunks of M tokens and a recurrence over
T / M states (Hua et al. 2022, FLASH; Sun et al. 2023, RetNet, equation 7). Work and memory are
linear in T.
"""

from dataclasses import dataclass

import mlx.core as mx

from .custom_vjp import custom_vjp
from .sums import row_sum
from .unstack import unstack

CHUNK = 64
TILE = 8
"""Tokens whose pairs are weighed one by one where every feature has its own decay."""
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
        """`[B, H, T, ...]` as `[B, H, N, M, ...]`."""
        missing = self.count * self.size - self.length
        if missing:
            x = mx.pad(x, [(0, 0), (0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 3))
        return x.reshape(*x.shape[:2], self.count, self.size, *x.shape[3:])

    def join(self, x: mx.array) -> mx.array:
        """`[B, H, N, M, V]` as `[B, H, T, V]`."""
        return x.reshape(*x.shape[:2], -1, x.shape[-1])[:, :, : self.length]

    def pairs(self, *, itself: bool = True) -> mx.array:
        """Whether a token reads another of its chunk, `[M, M]` or `[B, 1, N, M, M]`.

        Args:
            itself: whether it reads itself too.
        """
        index = mx.arange(self.size)
        seen = index[:, None] >= index[None] if itself else index[:, None] > index[None]
        if self.starts is None:
            return seen
        document = self._documents()
        return seen & (document[..., :, None] == document[..., None, :])

    def reading(self, x: mx.array) -> mx.array:
        """`x [B, H, N, M, K]` with zeros for tokens that don't read the chunk's first state."""
        if self.starts is None:
            return x
        return mx.where((self._documents() == 0)[..., None], x, 0.0)

    def writing(self, x: mx.array) -> mx.array:
        """`x [B, H, N, M, K]` with zeros for tokens that the chunk's last state doesn't hold."""
        if self.starts is None:
            return x
        document = self._documents()
        return mx.where((document == document[..., -1:])[..., None], x, 0.0)

    def carrying(self, x: mx.array) -> mx.array:
        """`x [B, H, N, 1 or K, 1 or K]` with zeros for chunks in which a document starts."""
        if self.starts is None:
            return x
        return mx.where((self._documents()[..., -1:] == 0)[..., None], x, 0.0)

    def _documents(self) -> mx.array:
        """The number of starts in the chunk up to each token, `[B, 1, N, M]`."""
        assert self.starts is not None
        return mx.cumsum(self.split(self.starts[:, None].astype(mx.int32)), axis=-1)


def document_starts(segments: mx.array | None) -> mx.array | None:
    """The first tokens of documents but the row's first, `[B, T]`, from their ids `[B, T]`."""
    if segments is None:
        return None
    return mx.pad(segments[:, 1:] != segments[:, :-1], [(0, 0), (1, 0)])


def tile(size: int) -> int:
    """Tokens of a tile in chunks of `size`."""
    return min(TILE, size)


def decayed_scores(
    q: mx.array, k: mx.array, until: mx.array, since: mx.array, seen: mx.array, heads: int = 1
) -> mx.array:
    """`Σ_d q_i[d] k_j[d] exp(until_i[d] - since_j[d])` of the pairs in chunks, zero if not `seen`.

    No exponent is positive where decays are at most 1. With a decay per feature, pairs within a
    tile are weighed one by one; two neighbouring spans meet at the border between them, to which
    the second's queries and the first's keys decay apart (as Yang et al. 2024, GLA, section 4.3).

    Args:
        q, k: `[B, G, N, M, K]`.
        until, since: the sums of log-decays that queries and keys stand at, `[..., M, 1 or K]`.
        seen: `[..., M, M]`, where `j <= i` at most.
        heads: how many heads share the queries and keys of a group.

    Returns:
        `[B, G * heads, N, M, M]`.
    """
    if until.shape[-1] == 1:
        decay = mx.where(seen, until - since.swapaxes(-1, -2), MASKED)
        return mx.repeat(q @ k.swapaxes(-1, -2), heads, axis=1) * mx.exp(decay)
    q, k = (mx.repeat(x, heads, axis=1) for x in (q, k))
    size = q.shape[-2]
    span = tile(size)

    def spans(x: mx.array, *shape: int) -> mx.array:
        return x.reshape(*x.shape[:-2], *shape, x.shape[-1])

    q_, k_, until_, since_ = (spans(x, -1, span) for x in (q, k, until, since))
    exponent = until_[..., :, None, :] - since_[..., None, :, :]
    lower = mx.tri(span, dtype=mx.bool_)[..., None]
    products = q_[..., :, None, :] * k_[..., None, :, :]
    tiles = row_sum(products * mx.exp(mx.where(lower, exponent, MASKED)))[..., 0]
    while span < size:
        q_, k_, until_, since_ = (spans(x, -1, 2, span) for x in (q, k, until, since))
        border = since_[..., 0, -1:, :]
        later = q_[..., 1, :, :] * mx.exp(until_[..., 1, :, :] - border)
        earlier = k_[..., 0, :, :] * mx.exp(border - since_[..., 0, :, :])
        across = later @ earlier.swapaxes(-1, -2)
        tiles = tiles.reshape(*across.shape[:-2], 2, span, span)
        first = mx.concatenate([tiles[..., 0, :, :], mx.zeros_like(across)], axis=-1)
        second = mx.concatenate([across, tiles[..., 1, :, :]], axis=-1)
        tiles = mx.concatenate([first, second], axis=-2)
        span *= 2
    return mx.where(seen, tiles.reshape(*q.shape[:-1], size), 0.0)


def chunk_states(
    carry: mx.array, write: mx.array, state: mx.array, *, matrix: bool = False
) -> tuple[mx.array, mx.array]:
    """The recurrence over chunks, `S_n = carry_n S_{n-1} + write_n`, and its backward as one too.

    Args:
        carry: `[B, H, N, K, K]` if `matrix`; else factors, `[B, H, N, 1 or K, 1]`.
        write: what each chunk adds, `[B, H, N, K, V]`.
        state: the first state, `[B, H, K, V]`.

    Returns:
        The state before each chunk, `[B, H, N, K, V]`, and the last one.
    """
    batch, heads = write.shape[:2]
    carry = mx.broadcast_to(carry, (batch, heads, *carry.shape[2:]))

    def times(factor: mx.array, s: mx.array) -> mx.array:
        return factor @ s if matrix else factor * s

    def forward(carry: mx.array, write: mx.array, state: mx.array) -> list[mx.array]:
        before = []
        for factor, added in zip(_by_chunk(carry), _by_chunk(write), strict=True):
            before.append(state)
            state = times(factor, state) + added
        return [mx.stack(before, axis=2), state]

    def backward(
        primals: tuple[mx.array, ...], cotangents: list[mx.array], outputs: list[mx.array]
    ) -> tuple[mx.array, ...]:
        carry, _, _ = primals
        flow, d_write = cotangents[1], []
        steps = list(zip(_by_chunk(carry), _by_chunk(cotangents[0]), strict=True))
        for factor, d_before in reversed(steps):
            d_write.append(flow)
            back = factor.swapaxes(-1, -2) if matrix else factor
            flow = times(back, flow) + d_before
        flows = mx.stack(d_write[::-1], axis=2)
        if matrix:
            return flows @ outputs[0].swapaxes(-1, -2), flows, flow
        d_carry = (flows * outputs[0]).sum(axis=-1, keepdims=True)
        if carry.shape[-2] == 1:
            d_carry = d_carry.sum(axis=-2, keepdims=True)
        return d_carry, flows, flow

    before, last = custom_vjp(forward, backward)(carry, write, state)
    return before, last


def _by_chunk(x: mx.array) -> list[mx.array]:
    """`[B, H, N, ...]` as N arrays `[B, H, ...]`."""
    return [each.reshape(*x.shape[:2], *x.shape[3:]) for each in unstack(x.flatten(0, 1))]
