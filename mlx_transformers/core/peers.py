"""The other processes of a job, for losses that compare every row of a batch with every other."""

from typing import Protocol

import mlx.core as mx
import numpy as np


class Peers(Protocol):
    """The processes that split a batch.

    Attributes:
        rank: index of this process.
        world: their number.
    """

    rank: int
    world: int

    def all_gather(self, flat: mx.array) -> mx.array:
        """Stack the vectors `[n]` of all processes, in their order: `[world, n]`."""
        ...


class Alone:
    """The only process of a job."""

    rank = 0
    world = 1

    def all_gather(self, flat: mx.array) -> mx.array:
        return flat[None]


ALONE = Alone()


def gathered(peers: Peers, *arrays: mx.array) -> list[mx.array]:
    """Return arrays `[B, ...]` of all processes, rank after rank: `[world * B, ...]`.

    Gradients of the process's own rows are multiplied by `world`. So a process that computes the
    loss of the whole batch and divides it by `world` has, for every parameter, a share of the whole
    gradient, and the shares add up to it: those of the vectors arise in one process each, those of
    a scale of the logits in all of them.
    """
    if peers.world == 1:
        return list(arrays)
    # One exchange, so that all processes communicate in one order.
    flat = mx.concatenate([array.reshape(-1).astype(mx.float32) for array in arrays])
    rows = mx.stop_gradient(peers.all_gather(mx.stop_gradient(flat)))
    ends = np.cumsum([array.size for array in arrays])[:-1].tolist()
    parts = mx.split(rows, ends, axis=1)
    return [_with_own(peers, part, array) for part, array in zip(parts, arrays, strict=True)]


def _with_own(peers: Peers, part: mx.array, own: mx.array) -> mx.array:
    """The rows of all processes `part [world, n]`, this one's with their gradient."""
    every = part.reshape(peers.world, *own.shape).astype(own.dtype)
    still = mx.stop_gradient(own)
    own_rows = still + peers.world * (own - still)
    before, after = every[: peers.rank], every[peers.rank + 1 :]
    return mx.concatenate([before, own_rows[None], after]).flatten(0, 1)
