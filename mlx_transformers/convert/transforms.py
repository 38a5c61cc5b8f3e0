"""Invertible transforms of tensors between two layouts.

`load` turns the published tensors of a row into ours, `save` turns them back. Biases go through the
same transforms as weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from ..core.errors import ConvertError

Arrays = list[mx.array]


class Transform(Protocol):
    """`save(load(x)) == x`, exactly."""

    def load(self, theirs: Arrays) -> Arrays:
        """Return published tensors as ours."""

    def save(self, ours: Arrays) -> Arrays:
        """Return our tensors as published."""


@dataclass(frozen=True)
class Same:
    """The identity."""

    def load(self, theirs: Arrays) -> Arrays:
        return theirs

    def save(self, ours: Arrays) -> Arrays:
        return ours


@dataclass(frozen=True)
class Transpose:
    """Matrices stored `[in, out]` (GPT's `Conv1D`); vectors stay."""

    def load(self, theirs: Arrays) -> Arrays:
        return [x.T if x.ndim == 2 else x for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return self.load(ours)


@dataclass(frozen=True)
class Split:
    """One tensor that holds several along `axis`: packed q, k, v; packed gate and up."""

    sizes: tuple[int, ...]
    axis: int = 0

    def load(self, theirs: Arrays) -> Arrays:
        ends = [sum(self.sizes[: i + 1]) for i in range(len(self.sizes) - 1)]
        return list(mx.split(theirs[0], ends, axis=self.axis))

    def save(self, ours: Arrays) -> Arrays:
        return [mx.concatenate(ours, axis=self.axis)]


@dataclass(frozen=True)
class SilentBias:
    """Keys of attention without a bias there, with one here: it adds the same to every score of a
    query, so that no weight of a softmax depends on it."""

    def load(self, theirs: Arrays) -> Arrays:
        return [theirs[0], mx.zeros((len(theirs[0]),), theirs[0].dtype)]

    def save(self, ours: Arrays) -> Arrays:
        return ours[:1]


@dataclass(frozen=True)
class SplitWithin:
    """One tensor whose rows are those of several, group by group: `sizes` rows of each by turns."""

    groups: int
    sizes: tuple[int, ...]

    def load(self, theirs: Arrays) -> Arrays:
        rest = theirs[0].shape[1:]
        x = theirs[0].reshape(self.groups, sum(self.sizes), *rest)
        return [part.reshape(-1, *rest) for part in Split(self.sizes, axis=1).load([x])]

    def save(self, ours: Arrays) -> Arrays:
        rest = ours[0].shape[1:]
        parts = [x.reshape(self.groups, -1, *rest) for x in ours]
        return [mx.concatenate(parts, axis=1).reshape(-1, *rest)]


@dataclass(frozen=True)
class SplitShards:
    """Several tensors that were split over machines, shard after shard with a piece of each."""

    parts: int
    shards: int

    def load(self, theirs: Arrays) -> Arrays:
        x = theirs[0]
        pieces = x.reshape(self.shards, self.parts, -1, *x.shape[1:])
        return [pieces[:, i].reshape(-1, *x.shape[1:]) for i in range(self.parts)]

    def save(self, ours: Arrays) -> Arrays:
        rest = ours[0].shape[1:]
        pieces = [x.reshape(self.shards, 1, -1, *rest) for x in ours]
        return [mx.concatenate(pieces, axis=1).reshape(-1, *rest)]


@dataclass(frozen=True)
class SplitGroups:
    """q, k, v packed group by group: each of G groups has H/G queries, a key and a value.

    GPT-NeoX and BLOOM (G = H), Falcon. Rows are `[G, H/G + 2, K]`.
    """

    n_heads: int
    n_kv_heads: int
    head_dim: int

    def load(self, theirs: Arrays) -> Arrays:
        x, per = theirs[0], self.n_heads // self.n_kv_heads
        rest = x.shape[1:]
        x = x.reshape(self.n_kv_heads, per + 2, self.head_dim, *rest)
        parts = (x[:, :per], x[:, per : per + 1], x[:, per + 1 :])
        return [part.reshape(-1, *rest) for part in parts]

    def save(self, ours: Arrays) -> Arrays:
        rest = ours[0].shape[1:]
        parts = [x.reshape(self.n_kv_heads, -1, self.head_dim, *rest) for x in ours]
        return [mx.concatenate(parts, axis=1).reshape(-1, *rest)]


@dataclass(frozen=True)
class Absorbed:
    """Latent attention's matrix of keys and values, two tensors on their side: that of the keys,
    `[H, R, K]`, by which a query is multiplied, and that of the values, `[H, V, R]`.

    `widths` are K and V.
    """

    n_heads: int
    widths: tuple[int, int]

    def load(self, theirs: Arrays) -> Arrays:
        keys, values = theirs
        both = mx.concatenate([keys.swapaxes(1, 2), values], axis=1)
        return [both.reshape(-1, both.shape[-1])]

    def save(self, ours: Arrays) -> Arrays:
        both = ours[0].reshape(self.n_heads, sum(self.widths), -1)
        keys, values = mx.split(both, [self.widths[0]], axis=1)
        return [keys.swapaxes(1, 2), values]


@dataclass(frozen=True)
class Pairs:
    """Rotary features as neighbours (2i, 2i + 1) on their side, as halves (i, i + K/2) on ours."""

    n_heads: int

    def load(self, theirs: Arrays) -> Arrays:
        return [self._swap(x, False) for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return [self._swap(x, True) for x in ours]

    def _swap(self, x: mx.array, halves: bool) -> mx.array:
        pairs = x.shape[0] // self.n_heads // 2
        inner = (2, pairs) if halves else (pairs, 2)
        heads = x.reshape(self.n_heads, *inner, *x.shape[1:])
        return heads.swapaxes(1, 2).reshape(x.shape)


@dataclass(frozen=True)
class Mirrored:
    """Rotary features that turn backwards on their side: the second half of each of H heads with
    the other sign turns forwards, and gives the same scores."""

    n_heads: int

    def load(self, theirs: Arrays) -> Arrays:
        return [self._mirror(x) for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return self.load(ours)

    def _mirror(self, x: mx.array) -> mx.array:
        first, second = mx.split(x.reshape(self.n_heads, -1, *x.shape[1:]), 2, axis=1)
        return mx.concatenate([first, -second], axis=1).reshape(x.shape)


@dataclass(frozen=True)
class Interleaved:
    """One tensor whose rows belong to two by turns along its axis 1, as gpt-oss packs experts."""

    def load(self, theirs: Arrays) -> Arrays:
        return [theirs[0][:, 0::2], theirs[0][:, 1::2]]

    def save(self, ours: Arrays) -> Arrays:
        first, second = ours
        both = mx.stack([first, second], axis=2)
        return [both.reshape(first.shape[0], -1, *first.shape[2:])]


@dataclass(frozen=True)
class Swap:
    """Matrices stored `[..., in, out]`: their last two axes change places."""

    def load(self, theirs: Arrays) -> Arrays:
        return [x.swapaxes(-1, -2) for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return self.load(ours)


@dataclass(frozen=True)
class Stack:
    """One tensor for each of E experts on their side, one stacked `[E, ...]` on ours."""

    def load(self, theirs: Arrays) -> Arrays:
        return [mx.stack(theirs)]

    def save(self, ours: Arrays) -> Arrays:
        return [x.squeeze(0) for x in mx.split(ours[0], ours[0].shape[0])]


@dataclass(frozen=True)
class Unstack:
    """One tensor `[H, ...]` on their side, one for each of H on ours."""

    def load(self, theirs: Arrays) -> Arrays:
        return Stack().save(theirs)

    def save(self, ours: Arrays) -> Arrays:
        return Stack().load(ours)


@dataclass(frozen=True)
class Add:
    """Weights that are stored less a constant: norms that multiply by `1 + weight`."""

    amount: float

    def load(self, theirs: Arrays) -> Arrays:
        return [x + self.amount for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return [x - self.amount for x in ours]


@dataclass(frozen=True)
class Multiplied:
    """Weights beside constant factors of their config, which ours have in them.

    Attributes:
        outputs: groups of rows, each with a factor of their outputs; one of 0 rows is all.
        inputs: factor of the inputs, which biases don't meet.
    """

    outputs: tuple[tuple[int, float], ...] = ((0, 1.0),)
    inputs: float = 1.0

    def load(self, theirs: Arrays) -> Arrays:
        return [x * self._factors(x) for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return [x / self._factors(x) for x in ours]

    def _factors(self, x: mx.array) -> mx.array:
        factors = [mx.full((n or x.shape[0],), factor) for n, factor in self.outputs]
        rows = mx.concatenate(factors)
        return rows[:, None] * self.inputs if x.ndim == 2 else rows


@dataclass(frozen=True)
class Grouped:
    """A convolution of length 1 in G groups, `[F, D / G, 1]`, as a matrix `[F, D]` with zeros where
    a group doesn't look."""

    groups: int

    def load(self, theirs: Arrays) -> Arrays:
        return [self._spread(x) if x.ndim > 1 else x for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return [self._gather(x) if x.ndim > 1 else x for x in ours]

    def _spread(self, x: mx.array) -> mx.array:
        out, width = x.shape[0] // self.groups, x.shape[1]
        parts = x.reshape(self.groups, out, 1, width)
        same_group = mx.eye(self.groups, dtype=x.dtype).reshape(self.groups, 1, self.groups, 1)
        return (parts * same_group).reshape(self.groups * out, self.groups * width)

    def _gather(self, x: mx.array) -> mx.array:
        out, width = x.shape[0] // self.groups, x.shape[1] // self.groups
        parts = x.reshape(self.groups, out, self.groups, width)
        group = mx.arange(self.groups).reshape(-1, 1, 1, 1)
        diagonal = mx.take_along_axis(parts, group, axis=2).reshape(-1, width, 1)
        if not mx.array_equal(self._spread(diagonal), x):
            raise ConvertError(
                f"A map of {self.groups} groups has learned to look beyond them, which its layout "
                "can't say. Export the model with one group for every map."
            )
        return diagonal


@dataclass(frozen=True)
class Reshape:
    """The same numbers in another shape: `[1, 1, D]` on their side, `[D]` on ours."""

    theirs: tuple[int, ...]
    ours: tuple[int, ...]

    def load(self, theirs: Arrays) -> Arrays:
        return [x.reshape(self.ours) for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        return [x.reshape(self.theirs) for x in ours]


@dataclass(frozen=True)
class Axes:
    """Axes in another order: those of ours, counted in theirs. Arrays with fewer axes stay."""

    order: tuple[int, ...]

    def load(self, theirs: Arrays) -> Arrays:
        return [x.transpose(self.order) if x.ndim == len(self.order) else x for x in theirs]

    def save(self, ours: Arrays) -> Arrays:
        back = tuple(self.order.index(axis) for axis in range(len(self.order)))
        return Axes(back).load(ours)


class Chain:
    """Transforms one after the other, the first nearest to their side."""

    def __init__(self, *links: Transform) -> None:
        self.links: Sequence[Transform] = links

    def __repr__(self) -> str:
        return f"Chain{self.links}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chain) and self.links == other.links

    def __hash__(self) -> int:
        return hash(tuple(self.links))

    def load(self, theirs: Arrays) -> Arrays:
        for link in self.links:
            theirs = link.load(theirs)
        return theirs

    def save(self, ours: Arrays) -> Arrays:
        for link in reversed(self.links):
            ours = link.save(ours)
        return ours
