"""Gradient clipping: by the norm of all gradients, or unit by unit."""

from collections.abc import Callable
from typing import ClassVar, Literal

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from pydantic import Field

from ..core.tree import Tree
from ..recipe.config import Kind

Clip = Callable[[Tree, Tree], tuple[Tree, mx.array]]
"""(gradients, parameters) -> (clipped gradients, norm before clipping)."""
Norm = Callable[[Tree], mx.array]
"""The norm of all gradients, also of those that other processes have."""


def global_norm(tree: Tree) -> mx.array:
    """The 2-norm of all leaves as one vector, float32. Not finite as soon as one leaf isn't."""
    squares = [mx.sum(mx.square(leaf.astype(mx.float32))) for _, leaf in tree_flatten(tree)]
    return mx.sqrt(mx.sum(mx.stack(squares))) if squares else mx.zeros(())


def clip_global_norm(
    gradients: Tree, max_norm: float, norm_of: Norm = global_norm
) -> tuple[Tree, mx.array]:
    """Scale all gradients by `min(1, max_norm / norm)` (Pascanu et al. 2013, algorithm 1).

    Returns:
        The gradients, in their own dtypes, and their norm before.
    """
    norm = norm_of(gradients)
    factor = mx.minimum(max_norm / (norm + 1e-6), 1.0)
    return tree_map(lambda g: (g * factor).astype(g.dtype), gradients), norm


def clip_adaptive(
    gradients: Tree,
    parameters: Tree,
    factor: float = 0.01,
    eps: float = 1e-3,
) -> tuple[Tree, mx.array]:
    """Adaptive gradient clipping (Brock et al. 2021, equation 3), unit by unit.

        g_i = g_i · min(1, factor · max(|w_i|, eps) / |g_i|)

    A unit is a row (the last axis: the inputs of one output, also in a stack of expert
    matrices), a filter `[out, height, width, in]` of a 2-D convolution, or a whole vector. The
    paper leaves out the last layer; here every parameter is clipped.

    Args:
        gradients: the tree to clip.
        parameters: a tree that has (at least) the same leaves.
        factor: largest norm of a gradient over that of its weights.
        eps: least norm of weights counted, so that units at 0 can move.

    Returns:
        The gradients, in their own dtypes, and their global norm before.
    """

    def clip(g: mx.array, w: mx.array) -> mx.array:
        limit = factor * mx.maximum(_unit_norm(w), eps)
        return (g * mx.minimum(limit / mx.maximum(_unit_norm(g), 1e-6), 1.0)).astype(g.dtype)

    return tree_map(clip, gradients, parameters), global_norm(gradients)


def _unit_norm(x: mx.array) -> mx.array:
    axes: tuple[int, ...] | None = None
    if x.ndim in (2, 3):
        axes = (-1,)
    elif x.ndim > 3:
        axes = tuple(range(1, x.ndim))
    return mx.sqrt(mx.sum(mx.square(x.astype(mx.float32)), axis=axes, keepdims=True))


class ClipNone(Kind):
    """No clipping; the norm is still measured."""

    pointwise: ClassVar[bool] = True

    kind: Literal["none"] = "none"

    def build(self, norm_of: Norm = global_norm) -> Clip:
        return lambda gradients, parameters: (gradients, norm_of(gradients))


class ClipNorm(Kind):
    """By the norm of all gradients together (Pascanu et al. 2013, algorithm 1)."""

    pointwise: ClassVar[bool] = True

    kind: Literal["norm"] = "norm"
    max_norm: float = Field(default=1.0, gt=0.0)
    """The largest norm that is left alone."""

    def build(self, norm_of: Norm = global_norm) -> Clip:
        return lambda gradients, parameters: clip_global_norm(gradients, self.max_norm, norm_of)


class ClipAdaptive(Kind):
    """By the norm of each unit's own weights (Brock et al. 2021, equation 3)."""

    pointwise: ClassVar[bool] = False

    kind: Literal["adaptive"] = "adaptive"
    factor: float = Field(default=0.01, gt=0.0)
    """Largest norm of a unit's gradient over the norm of its weights."""
    eps: float = Field(default=1e-3, gt=0.0)
    """Least norm of weights counted, so that units at 0 can move."""

    def build(self) -> Clip:
        return lambda gradients, parameters: clip_adaptive(
            gradients, parameters, self.factor, self.eps
        )
