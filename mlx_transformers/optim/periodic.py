"""Periodic work of optimizers between their updates: Hessian estimates and preconditioners.

A compiled update has no branches, so work that is due every k updates is a function of its own,
which the training step calls when the number of the update is a multiple of k.
"""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import mlx.core as mx
import mlx.optimizers as mlx_optim
from mlx.utils import tree_flatten, tree_map

from ..core.tree import Tree


class CurvatureKind(NamedTuple):
    """An estimate of the loss's curvature that an optimizer asks for."""

    by: Literal["labels", "hessian"]
    """`labels`: `B · g²` of the mean gradient g over B labels that the model draws itself (Gauss-
    Newton-Bartlett). `hessian`: `u · (H u)` with a random u (Hutchinson)."""
    every: int
    """Updates between estimates."""


class DiagonalHessian(mlx_optim.Optimizer, ABC):
    """An optimizer that averages estimates of the diagonal of the Hessian."""

    @abstractmethod
    def update_hessian_single(self, estimate: mx.array, state: dict[str, mx.array]) -> None:
        """Move the average in `state` towards an estimate for one parameter."""


class Preconditioned(mlx_optim.Optimizer, ABC):
    """An optimizer whose preconditioner is recomputed every few updates."""

    every: int

    @abstractmethod
    def refresh_single(self, state: dict[str, mx.array]) -> None:
        """Recompute the preconditioner of one parameter in its `state`."""


def groups_of(optimizer: mlx_optim.Optimizer) -> list[mlx_optim.Optimizer]:
    """Return the optimizers of all parameter groups."""
    if isinstance(optimizer, mlx_optim.MultiOptimizer):
        return [part for member in optimizer.optimizers for part in groups_of(member)]
    return [optimizer]


def update_hessian(optimizer: mlx_optim.Optimizer, estimates: Tree) -> None:
    """Update the Hessians of `DiagonalHessian` groups by estimates, a tree like the gradients."""
    by_path = dict(tree_flatten(estimates))
    for part in groups_of(optimizer):
        if isinstance(part, DiagonalHessian):
            for path in parameter_paths(part.state):
                part.update_hessian_single(by_path[path], state_at(part, path))


def refresh_every(optimizer: mlx_optim.Optimizer) -> int | None:
    """Return the number of updates between refreshes; None if no group is `Preconditioned`."""
    periods = [part.every for part in groups_of(optimizer) if isinstance(part, Preconditioned)]
    return min(periods) if periods else None


def refresh(optimizer: mlx_optim.Optimizer) -> None:
    """Recompute the preconditioners of every `Preconditioned` group."""
    for part in groups_of(optimizer):
        if isinstance(part, Preconditioned):
            for path in parameter_paths(part.state):
                part.refresh_single(state_at(part, path))


def parameter_paths(state: Tree) -> list[str]:
    """Return the paths of the parameters that have state, without the optimizer's own scalars."""
    paths = {path.rpartition(".")[0] for path, _ in tree_flatten(state)}
    return sorted(path for path in paths if path)


def state_at(optimizer: mlx_optim.Optimizer, path: str) -> dict[str, mx.array]:
    """Return the state of the parameter at a dotted path: the container itself."""
    state = optimizer.state
    for key in path.split("."):
        state = state[int(key)] if isinstance(state, list) else state[key]
    return state


def hutchinson(parameters: Tree, key: mx.array) -> Tree:
    """Return a standard normal direction `u`, a tree like the parameters."""
    keys = iter(mx.random.split(key, len(tree_flatten(parameters))))
    return tree_map(lambda p: mx.random.normal(p.shape, key=next(keys)), parameters)
