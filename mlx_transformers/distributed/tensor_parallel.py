"""A run whose processes share the layers of the model: who has which part of every array.

A run begins whole: weights and optimizer as one process would have them, but lazy. `divide` gives
each process its part of rank 0's arrays, one array after the other, and `whole` puts them together
again, so that a checkpoint is that of one process.
"""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_flatten, tree_map_with_path

from ..layers.sharding import axis_of
from ..models.sharing import share_out
from ..optim.clip import global_norm
from ..runs.tensors import Tree, filled, named_leaves
from .processes import Layers


class Division:
    """The parts of the arrays of one process among those that share a model's blocks.

    Args:
        ranks: the processes.
        optimizer: makes the one of a model that is divided.

    Attributes:
        done: whether the model is divided already.
        axes: along which axis an array is divided, by its path; those that all have whole are not
            there.
    """

    def __init__(self, ranks: Layers, optimizer: Callable[[nn.Module], Optimizer]) -> None:
        self.ranks = ranks
        self.optimizer = optimizer
        self.done = False
        self.axes: dict[str, int] = {}
        self._of_heads: set[str] = set()

    def divide(self, model: nn.Module) -> None:
        """Keep this process's part of the model, with the weights that rank 0's has."""
        before = {"model": model.parameters()}
        beside = share_out(model, self.ranks.group)
        model.update(self.cut(before, {"model": model.parameters()})["model"])
        self._of_heads = {f"model.{name}" for name in beside} - self.axes.keys()
        self.done = True

    def cut(self, whole: dict[str, Tree], like: dict[str, Tree]) -> dict[str, Tree]:
        """This process's parts of rank 0's arrays, evaluated; `like` has their shapes."""
        found, own = {}, dict(named_leaves(like))
        for name, array in named_leaves(whole):
            part = self.ranks.copy(array)
            axis = axis_of(array, own[name])
            if axis is not None:
                self.axes[name] = axis
                part = mx.contiguous(mx.split(part, self.ranks.processes, axis)[self.ranks.number])
            mx.eval(part)
            found[name] = part
        return filled(like, found)

    def whole(self, trees: dict[str, Tree]) -> dict[str, Tree]:
        """The arrays of all processes put together, on rank 0; the others get {}."""
        found = {}
        for name, array in named_leaves(trees):
            if name in self.axes:
                array = self._joined(array, self.axes[name])
            mx.eval(array)
            if self.ranks.leads:
                found[name] = array
        return filled(trees, found) if self.ranks.leads else {}

    def _joined(self, part: mx.array, axis: int) -> mx.array:
        rows = mx.distributed.all_gather(mx.moveaxis(part, axis, 0), group=self.ranks.group)
        return mx.contiguous(mx.moveaxis(rows, 0, axis))

    def complete(self, gradients: Tree) -> Tree:
        """The model's gradients, those summed of which each process knows its own heads' share."""

        def one(name: str, gradient: mx.array) -> mx.array:
            if f"model.{name}" not in self._of_heads:
                return gradient
            return mx.distributed.all_sum(gradient, group=self.ranks.group)

        return tree_map_with_path(one, gradients)

    def norm(self, gradients: Tree) -> mx.array:
        """The norm of all the model's gradients, those of other processes among them."""
        leaves = tree_flatten({"model": gradients})
        parts = global_norm([leaf for name, leaf in leaves if name in self.axes])
        rest = global_norm([leaf for name, leaf in leaves if name not in self.axes])
        squares = mx.distributed.all_sum(mx.square(parts), group=self.ranks.group)
        return mx.sqrt(squares + mx.square(rest))
