"""Gradient clipping: by global norm, or adaptively, unit by unit."""

from typing import ClassVar, Literal

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from pydantic import Field

from ..core.tree import Tree
from ..ops.sums import row_sum
from .kinds import Clip, ClipKind, Norm


def global_norm(tree: Tree) -> mx.array:
    """Return the 2-norm of all leaves as one vector, float32; not finite if any leaf isn't."""
    return norm_of([square_sum(leaf) for _, leaf in tree_flatten(tree)])


def square_sum(x: mx.array) -> mx.array:
    """Return the sum of an array's squares, float32."""
    squares = mx.square(x.astype(mx.float32))
    return mx.sum(row_sum(squares) if squares.ndim else squares)


def norm_of(squares: list[mx.array]) -> mx.array:
    """Return the 2-norm of arrays with these sums of squares, as one vector."""
    return mx.sqrt(mx.sum(mx.stack(squares))) if squares else mx.zeros(())


def clip_global_norm(
    gradients: Tree, max_norm: float, norm_of: Norm = global_norm
) -> tuple[Tree, mx.array]:
    """Scale all gradients by `min(1, max_norm / norm)` (Pascanu et al. 2013, algorithm 1).

    Returns:
        The clipped gradients, in their own dtypes, and their norm before clipping.
    """
    norm = norm_of(gradients)
    factor = mx.minimum(max_norm / (norm + 1e-6), 1.0)
    return tree_map(lambda g: (g * factor).astype(g.dtype), gradients), norm


def clip_adaptive(
    gradients: Tree,
    parameters: Tree,
    factor: float = 0.01,
    eps: float = 1e-3,
    norm_of: Norm = global_norm,
) -> tuple[Tree, mx.array]:
    """Adaptive gradient clipping (Brock et al. 2021, equation 3), unit by unit.

        g_i = g_i · min(1, factor · max(|w_i|, eps) / |g_i|)

    A unit is a row (the last axis: the inputs of one output, also in a stack of expert
    matrices), a filter `[out, height, width, in]` of a 2-D convolution, or a whole vector. The
    paper does not clip the last layer; here every parameter is clipped.

    Args:
        gradients: the tree to clip.
        parameters: a tree with at least the same leaves.
        factor: largest norm of a unit's gradient, relative to that of its weights.
        eps: smallest norm of weights to compare with, so that units at 0 can learn.
        norm_of: computes the norm of all gradients.

    Returns:
        The clipped gradients, in their own dtypes, and their global norm before clipping.
    """

    def clip(g: mx.array, w: mx.array) -> mx.array:
        limit = factor * mx.maximum(_unit_norm(w), eps)
        return (g * mx.minimum(limit / mx.maximum(_unit_norm(g), 1e-6), 1.0)).astype(g.dtype)

    return tree_map(clip, gradients, parameters), norm_of(gradients)


def _unit_norm(x: mx.array) -> mx.array:
    axes: tuple[int, ...] | None = None
    if x.ndim in (2, 3):
        axes = (-1,)
    elif x.ndim > 3:
        axes = tuple(range(1, x.ndim))
    return mx.sqrt(mx.sum(mx.square(x.astype(mx.float32)), axis=axes, keepdims=True))


class ClipNone(ClipKind):
    """No clipping; the norm is still reported."""

    pointwise: ClassVar[bool] = True

    kind: Literal["none"] = "none"

    def build(self, norm_of: Norm = global_norm) -> Clip:
        return lambda gradients, parameters: (gradients, norm_of(gradients))


class ClipNorm(ClipKind):
    """Clipping by global norm (Pascanu et al. 2013, algorithm 1)."""

    pointwise: ClassVar[bool] = True

    kind: Literal["norm"] = "norm"
    max_norm: float = Field(default=1.0, gt=0.0)
    """Largest norm of all gradients together; larger ones are scaled down to it."""

    def build(self, norm_of: Norm = global_norm) -> Clip:
        return lambda gradients, parameters: clip_global_norm(gradients, self.max_norm, norm_of)


class ClipAdaptive(ClipKind):
    """Adaptive gradient clipping, by the norm of each unit's weights (Brock et al. 2021, eq. 3)."""

    pointwise: ClassVar[bool] = False

    kind: Literal["adaptive"] = "adaptive"
    factor: float = Field(default=0.01, gt=0.0)
    """Largest norm of a unit's gradient, relative to that of its weights."""
    eps: float = Field(default=1e-3, gt=0.0)
    """Smallest norm of weights to compare with, so that units at 0 can learn."""

    def build(self, norm_of: Norm = global_norm) -> Clip:
        return lambda gradients, parameters: clip_adaptive(
            gradients, parameters, self.factor, self.eps, norm_of
        )
