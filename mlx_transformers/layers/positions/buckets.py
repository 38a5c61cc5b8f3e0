"""T5's relative position buckets."""

import math
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ...core.context import Context
from ...core.score_bias import DistanceBias
from ...core.shapes import BTD
from ...ops.lookup import lookup
from ..kinds import PositionKind
from ..linear import matrix
from .learned import Learned, LearnedPosition
from .position import Position


class Buckets(PositionKind):
    """T5's relative position bias: a learned bias per head and bucket of distance.

    Raffel et al. 2020 (T5), section 2.1: near distances have a bucket each, farther ones share
    logarithmically wider buckets up to `max_distance`, beyond which all share the last. Causal
    attention uses all buckets for the past, other attention half for each direction.
    """

    kind: Literal["buckets"] = "buckets"
    adds_to_scores: ClassVar[bool] = True
    n_heads: int = Field(ge=1)
    """Query heads H of the mixers."""
    n_buckets: int = Field(32, ge=4)
    """Number of buckets."""
    max_distance: int = Field(128, ge=2)
    """Distance where the last bucket begins."""
    summaries: bool = False
    """Whether there is a second table, for the distance in blocks of the summaries that
    `transient_global` mixers read (LongT5)."""
    absolute: int | None = Field(None, ge=0)
    """Adds learned absolute positions, which skip padding, to the embeddings as well: rows of that
    table before position 0 (MPNet: 2). None means no absolute positions."""

    def build(self, dim: int, max_seq_len: int) -> "BucketPosition":
        return BucketPosition(self, dim, max_seq_len)


class BucketPosition(Position):
    """`scores + table[bucket(s - t)]`."""

    def __init__(self, config: Buckets, dim: int, max_seq_len: int) -> None:
        super().__init__()
        self.n_buckets, self.max_distance = config.n_buckets, config.max_distance
        self.table = nn.Embedding(config.n_buckets, config.n_heads)
        if config.summaries:
            self.summary_table = nn.Embedding(config.n_buckets, config.n_heads)
        if config.absolute is not None:
            learned = Learned(offset=config.absolute, skips_padding=True)
            self.absolute = LearnedPosition(learned, dim, max_seq_len)

    def embed(self, x: BTD, ctx: Context) -> BTD:
        return self.absolute.embed(x, ctx) if "absolute" in self else x

    def admit(self, length: int) -> None:
        if "absolute" in self:
            self.absolute.admit(length)

    def distance_bias(self, q: mx.array, k: mx.array, ctx: Context) -> DistanceBias:
        ahead = self.ahead(q.shape[2])
        rows = bucket(ahead, self.n_buckets, self.max_distance, ctx.layout.causal)
        return DistanceBias(lookup(matrix(self.table), rows).T[None])

    def bias(
        self, q: mx.array, k: mx.array, q_pos: mx.array, k_pos: mx.array, ctx: Context
    ) -> mx.array:
        ahead = k_pos[None, :] - q_pos[:, None]
        rows = bucket(ahead, self.n_buckets, self.max_distance, ctx.layout.causal)
        return lookup(matrix(self.table), rows).transpose(2, 0, 1)[None]

    def summary_bias(self, ahead: mx.array) -> mx.array | None:
        if "summary_table" not in self:
            return None
        rows = bucket(ahead, self.n_buckets, self.max_distance, causal=False)
        return lookup(matrix(self.summary_table), rows).transpose(0, 3, 1, 2)


def bucket(ahead: mx.array, n_buckets: int, max_distance: int, causal: bool) -> mx.array:
    """The bucket of each relative position `ahead = key - query`, integer, same shape."""
    first = mx.zeros_like(ahead)
    if causal:
        distance = mx.maximum(-ahead, 0)
    else:
        n_buckets //= 2
        first = mx.where(ahead > 0, n_buckets, 0)
        distance = mx.abs(ahead)
    exact = n_buckets // 2
    # One is added under the logarithm's mask alone: log(0) would be minus infinity there.
    far = mx.log(mx.maximum(distance, 1).astype(mx.float32) / exact)
    share = far / math.log(max_distance / exact) * (n_buckets - exact)
    wide = mx.minimum(exact + share.astype(mx.int32), n_buckets - 1)
    return first + mx.where(distance < exact, distance, wide)
