"""Optimizer state sharded over ranks: ZeRO, stage 1 (Rajbhandari et al. 2020, section 5.1).

Each rank holds the optimizer state of its shard of the parameters, updates those, and all-gathers
the new values:

    new[own] = update(gradients[own], moments[own])          new = all_gather(new[own])

Shards are whole parameters, so updates that read a whole matrix (Muon, Adafactor) equal those of
unsharded training bit for bit, since all ranks hold the same summed gradients. Gradients are
all-reduced in full: MLX's ring has no reduce-scatter.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.optimizers as mlx_optim
from mlx.utils import tree_flatten, tree_unflatten

from ..core.tree import assign
from ..runs.restore import check
from ..runs.tensors import Tree, filled, named_leaves
from .processes import Ranks


def partition(parameters: Tree, world: int) -> list[frozenset[str]]:
    """Partition parameters over ranks by path: largest first, to the rank with the fewest bytes."""
    leaves = sorted(tree_flatten(parameters), key=lambda leaf: (-leaf[1].nbytes, leaf[0]))
    names: list[list[str]] = [[] for _ in range(world)]
    sizes = [0] * world
    for name, leaf in leaves:
        least = sizes.index(min(sizes))
        names[least].append(name)
        sizes[least] += leaf.nbytes
    return [frozenset(each) for each in names]


def subtree(tree: Tree, names: frozenset[str]) -> Tree:
    """Return the subtree with the leaves of these paths."""
    leaves = [(name, leaf) for name, leaf in tree_flatten(tree) if name in names]
    return tree_unflatten(leaves) if leaves else {}


class Sharded(mlx_optim.Optimizer):
    """An optimizer of all parameters that holds the state of this rank's shard.

    `gather` and `scatter` communicate: all ranks must call them in the same order.
    """

    def __init__(self, make: Callable[[], mlx_optim.Optimizer], ranks: Ranks) -> None:
        super().__init__()
        self.make = make
        self.ranks = ranks
        self.inner = make()
        self.shards: list[frozenset[str]] = []
        self.saved: Tree | None = None

    @property
    def state(self) -> dict[str, Any]:
        """The state of this rank's shard."""
        return self.inner.state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.inner.state = state

    @property
    def learning_rate(self) -> mx.array:
        """The learning rate of the last update."""
        return self.inner.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: float | mx.array) -> None:
        self.inner.learning_rate = learning_rate

    def init(self, parameters: dict[str, Any]) -> None:
        """Partition the parameters, and make the state of this rank's shard."""
        self.shards = partition(parameters, self.ranks.world)
        self.inner.init(subtree(parameters, self.shards[self.ranks.rank]))
        template = self.make()
        template.init(parameters)
        self.template = template.state  # never evaluated: names, shapes and dtypes

    def apply_gradients(
        self, gradients: dict[str, Any], parameters: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the new values of all parameters, those of other shards from their ranks."""
        own_names = self.shards[self.ranks.rank]
        new = dict(
            tree_flatten(self.inner.apply_gradients(subtree(gradients, own_names), parameters))
        )
        leaves = dict(tree_flatten(gradients))
        new_leaves: dict[str, mx.array] = {}
        for dtype in sorted({str(leaf.dtype) for leaf in leaves.values()}):
            of_dtype = {name: leaf for name, leaf in leaves.items() if str(leaf.dtype) == dtype}
            new_leaves |= self._exchange(new, of_dtype)
        updated: dict[str, Any] = tree_unflatten([(name, new_leaves[name]) for name in leaves])
        return updated

    def _exchange(self, new: dict[str, mx.array], leaves: dict[str, mx.array]) -> dict[str, Any]:
        """All-gather the new arrays of all ranks, as flat rows of one length."""
        order = [[name for name in leaves if name in shard] for shard in self.shards]
        sizes = [sum(leaves[name].size for name in names) for names in order]
        own_leaves = [new[name].reshape(-1) for name in order[self.ranks.rank]]
        pad = mx.zeros(max(sizes) - sizes[self.ranks.rank], next(iter(leaves.values())).dtype)
        rows = self.ranks.all_gather(mx.concatenate([*own_leaves, pad]))
        new_leaves = {}
        for row, names in enumerate(order):
            at = 0
            for name in names:
                like = leaves[name]
                new_leaves[name] = rows[row, at : at + like.size].reshape(like.shape)
                at += like.size
        return new_leaves

    def gather(self) -> Tree:
        """Collect the state of all parameters on rank 0, as unsharded; other ranks get {}."""
        own_leaves = dict(named_leaves(self.state))
        names = [name for name, _ in named_leaves(self.template)]
        keepers = self.ranks.gather([name in own_leaves for name in names])
        full: dict[str, mx.array] = {}
        for i, (name, like) in enumerate(named_leaves(self.template)):
            keeper = next(rank for rank, has in enumerate(keepers) if has[i])
            own_leaf = own_leaves[name] if keeper == self.ranks.rank else None
            value = _from_bytes(self.ranks.all_reduce(_bytes(own_leaf, like)), like)
            mx.eval(value)  # one by one: no rank but 0 ever holds more than its shard
            if self.ranks.is_main:
                full[name] = value
        return filled(self.template, full) if self.ranks.is_main else {}

    def stage(self, saved: Tree) -> None:
        """On rank 0, set the state that `scatter` distributes.

        Raises:
            CheckpointError: it isn't the state of these parameters.
        """
        check(self.template, saved, "optimizer")
        self.saved = saved

    def scatter(self) -> None:
        """Give every rank its shard of the staged state; without one, keep the present state."""
        if not self.ranks.gather(self.saved is not None)[0]:
            return
        saved = dict(named_leaves(self.saved)) if self.saved is not None else {}
        own_names = {name for name, _ in named_leaves(self.state)}
        kept_leaves: dict[str, mx.array] = {}
        for name, like in named_leaves(self.template):
            value = _from_bytes(self.ranks.broadcast(_bytes(saved.get(name), like)), like)
            mx.eval(value)
            if name in own_names:
                kept_leaves[name] = value
        assign(self.state, filled(self.state, kept_leaves))
        self.saved = None


def _bytes(array: mx.array | None, like: mx.array) -> mx.array:
    """Return the array as bytes, whose sums are exact (-0.0 + 0.0 is 0.0); None as zeros."""
    if array is None:
        return mx.zeros((like.nbytes,), mx.uint8)
    return array.reshape(-1).view(mx.uint8)


def _from_bytes(data: mx.array, like: mx.array) -> mx.array:
    return data.view(like.dtype).reshape(like.shape)
