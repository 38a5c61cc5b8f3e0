"""Movement pruning: keep weights that move away from zero; table `[prune.movement]` of a recipe.

Each weight W of a linear layer has a score S, and the layer computes with `W ⊙ M(S)`. The mask M
keeps the largest scores of each layer (hard), or those whose sigmoid exceeds a threshold (soft).
With a straight-through gradient of M, `dL/dS = dL/d(W ⊙ M) ⊙ W`; Sanh et al. 2020, equations 2 and
3.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten
from pydantic import Field

from ..core.tree import Tree, under_masks
from ..ops.sparse_training import ranks
from ..recipe.config import Config

BETAS, EPS = (0.9, 0.999), 1e-8
"""Adam's constants for scores."""
Arrays = dict[str, mx.array]
Masks = Callable[[mx.array, mx.array], mx.array]
"""`(scores, progress) -> mask`, boolean."""


class Movement(Config):
    """Movement scores, trained by Adam beside the weights; Sanh et al. 2020, section 4."""

    learning_rate: float = Field(1e-2, gt=0)
    """Learning rate of the scores, constant over the run."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Final threshold of the scores' sigmoid, which grows from 0 along the schedule (soft movement
    pruning). None: the mask keeps the largest scores of each layer, a share of 1 -
    `prune.sparsity`."""
    penalty: float = Field(0.0, ge=0)
    """Coefficient of the mean sigmoid of all scores in the loss, which pushes them below the
    threshold."""


class MovementMasks:
    """Masks, scores and masked weights of a model in movement pruning.

    The model itself holds `W ⊙ M`: gradients, evaluation and checkpoints are those of the pruned
    model. Masked weights are kept here, since a mask can open again.

    Attributes:
        state: for each weight its mask, its score, its masked values (`resting`) and Adam's moments
            of the score; and the number of updates. Checkpoints contain it.
    """

    def __init__(
        self, config: Movement, shapes: Mapping[str, tuple[int, ...]], mask: Masks
    ) -> None:
        self.config, self.names, self.mask_of = config, list(shapes), mask
        self.n_scores = sum(math.prod(shape) for shape in shapes.values())
        trees: dict[str, Arrays] = {"masks": {n: mx.ones(s, mx.uint8) for n, s in shapes.items()}}
        for part in ("scores", "resting", "means", "squares"):
            trees[part] = {name: mx.zeros(shape) for name, shape in shapes.items()}
        self.state: dict[str, Any] = {
            part: tree_unflatten(list(arrays.items())) for part, arrays in trees.items()
        }
        self.state["updates"] = mx.array(0)

    def __getitem__(self, part: str) -> Arrays:
        """A part of the state by names of weights."""
        return dict(tree_flatten(self.state[part]))

    def adopt(self, params: Tree) -> None:
        """Do nothing when the weights are replaced: no weight is masked yet."""

    def due(self, index: int) -> bool:
        """False: masks change after every update (`settle`), not before."""
        return False

    def rewire(
        self, params: Tree, grads: Tree, moments: Tree, progress: mx.array, key: mx.array
    ) -> tuple[Tree, Tree]:
        """Leave weights and moments as they are."""
        return params, moments

    def masked(self, tree: Tree) -> Tree:
        """Return a tree of parameters or gradients, 0 where a weight is masked."""
        return under_masks(tree, self["masks"])

    def settle(
        self, before: Tree, after: Tree, grads: Tree, progress: mx.array, finite: mx.array
    ) -> Tree:
        """Update the scores and masks after a step; returns the weights under the new masks.

        Args:
            before: the parameters that the gradients belong to.
            after: the updated parameters.
            grads: dense gradients of the masked weights.
            progress: share of the steps that are done.
            finite: whether the step counts.
        """
        previous, slopes = dict(tree_flatten(before)), dict(tree_flatten(grads))
        out, parts = dict(tree_flatten(after)), {part: self[part] for part in PARTS}
        updates = self.state["updates"] + finite.astype(mx.int32)
        for name in self.names:
            old = {part: parts[part][name] for part in PARTS}
            old_mask = old["masks"].astype(mx.float32)
            moved = slopes[name] * (previous[name] + old["resting"])
            new = self._scored(old, moved, updates)
            mask = self.mask_of(new["scores"], progress)
            weight = out[name] * old_mask + old["resting"]
            new |= {"masks": mask.astype(mx.uint8), "resting": mx.where(mask, 0, weight)}
            out[name] = mx.where(finite, mx.where(mask, weight, 0), previous[name])
            for part in PARTS:
                parts[part][name] = mx.where(finite, new[part], old[part])
        for part, arrays in parts.items():
            self.state[part] = tree_unflatten(list(arrays.items()))
        self.state["updates"] = updates
        return tree_unflatten(list(out.items()))

    def stats(self) -> Arrays:
        """The share of masked weights, for the log."""
        masks = self["masks"].values()
        return {"masked": 1 - sum((m.sum() for m in masks), mx.array(0)) / self.n_scores}

    def _scored(self, old: Arrays, slope: mx.array, updates: mx.array) -> Arrays:
        """Scores and their moments after a step of Adam with bias correction."""
        if self.config.penalty:
            open_ = mx.sigmoid(old["scores"])
            slope = slope + self.config.penalty / self.n_scores * open_ * (1 - open_)
        n = mx.maximum(updates, 1).astype(mx.float32)
        means = BETAS[0] * old["means"] + (1 - BETAS[0]) * slope
        squares = BETAS[1] * old["squares"] + (1 - BETAS[1]) * slope.square()
        mean, square = means / (1 - BETAS[0] ** n), squares / (1 - BETAS[1] ** n)
        scores = old["scores"] - self.config.learning_rate * mean / (mx.sqrt(square) + EPS)
        return {"scores": scores, "means": means, "squares": squares}


PARTS = ("masks", "scores", "resting", "means", "squares")
"""Parts of the state that have an array for each weight."""


def largest(scores: mx.array, sparsity: mx.array) -> mx.array:
    """Return where scores are among the largest of a matrix, all but a share of them."""
    n_removed = mx.floor(sparsity * scores.size).astype(mx.int32)
    return (ranks(scores.reshape(-1)) < scores.size - n_removed).reshape(scores.shape)
