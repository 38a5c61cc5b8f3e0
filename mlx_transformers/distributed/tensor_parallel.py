"""Tensor parallelism: each process has a shard of every block of the model.

A run begins with lazy arrays of the full model and optimizer. `shard_model` and `shard` give each
process its shard of rank 0's arrays, one array at a time; `gather` joins the shards, so that a
checkpoint is that of a single process.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx.optimizers import Optimizer
from mlx.utils import tree_flatten, tree_map_with_path

from ..core.tree import Tree
from ..layers.sharding import axis_of
from ..models.model import Model
from ..models.sharing import shard_model
from ..optim.clip import global_norm
from ..runs.tensors import filled, named_leaves
from .processes import TensorParallelGroup


class TensorParallel:
    """The shards of one tensor-parallel process.

    Args:
        ranks: the processes.
        optimizer: makes the optimizer of a sharded model.

    Attributes:
        sharded: whether the model is sharded already.
        axes: the axis along which each sharded array is split, by its path; replicated arrays are
            not in it.
    """

    def __init__(self, ranks: TensorParallelGroup, optimizer: Callable[[Model], Optimizer]) -> None:
        self.ranks = ranks
        self.optimizer = optimizer
        self.sharded = False
        self.axes: dict[str, int] = {}
        self._partial: set[str] = set()

    def shard_model(self, model: Model) -> None:
        """Keep this process's shard of the model, with rank 0's weights."""
        before = {"model": model.parameters()}
        beside = shard_model(model, self.ranks.group)
        model.update(self.shard(before, {"model": model.parameters()})["model"])
        self._partial = {f"model.{name}" for name in beside} - self.axes.keys()
        self.sharded = True

    def shard(self, trees: dict[str, Tree], like: dict[str, Tree]) -> dict[str, Tree]:
        """Return this process's shards of rank 0's arrays, evaluated; `like` has their shapes."""
        parts, like_of = {}, dict(named_leaves(like))
        for name, array in named_leaves(trees):
            part = self.ranks.broadcast(array)
            axis = axis_of(array, like_of[name])
            if axis is not None:
                self.axes[name] = axis
                part = mx.contiguous(mx.split(part, self.ranks.processes, axis)[self.ranks.number])
            mx.eval(part)
            parts[name] = part
        gathered: dict[str, Any] = filled(like, parts)
        return gathered

    def gather(self, trees: dict[str, Tree]) -> dict[str, Tree]:
        """Join the shards of all processes on rank 0; the others get {}."""
        full = {}
        for name, array in named_leaves(trees):
            if name in self.axes:
                array = self._joined(array, self.axes[name])
            mx.eval(array)
            if self.ranks.is_main:
                full[name] = array
        return filled(trees, full) if self.ranks.is_main else {}

    def _joined(self, part: mx.array, axis: int) -> mx.array:
        rows = mx.distributed.all_gather(mx.moveaxis(part, axis, 0), group=self.ranks.group)
        return mx.contiguous(mx.moveaxis(rows, 0, axis))

    def reduce_gradients(self, gradients: Tree) -> Tree:
        """All-reduce the gradients of replicated parameters that each process applies to its own
        heads only; return the others unchanged."""

        def one(name: str, gradient: mx.array) -> mx.array:
            if f"model.{name}" not in self._partial:
                return gradient
            return mx.distributed.all_sum(gradient, group=self.ranks.group)

        return tree_map_with_path(one, gradients)

    def norm(self, gradients: Tree) -> mx.array:
        """Return the norm of the gradients of the whole model."""
        leaves = tree_flatten({"model": gradients})
        parts = global_norm([leaf for name, leaf in leaves if name in self.axes])
        replicated = global_norm([leaf for name, leaf in leaves if name not in self.axes])
        squares = mx.distributed.all_sum(mx.square(parts), group=self.ranks.group)
        return mx.sqrt(squares + mx.square(replicated))
