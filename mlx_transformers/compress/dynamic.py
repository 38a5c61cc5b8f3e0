"""Dynamic sparse training: table `[sparse]` of a recipe.

A fixed share of each layer's connections (non-zero weights) is active from the first step to the
last. Every `every` steps the weakest are dropped and as many are grown, where the dense gradient is
largest (RigL: Evci et al. 2020) or at random (SET: Mocanu et al. 2018); `static` keeps the initial
ones. A run that starts from trained weights begins with the largest of each layer.
"""

import zlib
from typing import Annotated, Any, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from pydantic import Field

from ..core.tree import Tree, under_masks
from ..layers.linear import matrix
from ..ops.sparse_training import densities, drop_and_grow, update_fraction
from ..recipe.config import Config
from .training import matching


class Sparse(Config):
    """Dynamic sparse training of linear layers: a fixed share of weights is 0 at every step."""

    method: Literal["rigl", "set", "static"] = "rigl"
    """Where connections grow: at the largest gradients, at random, or nowhere."""
    sparsity: Annotated[float, Field(gt=0, lt=1)]
    """Share of the weights of all chosen layers that are 0."""
    densities: Literal["erk", "uniform"] = "erk"
    """Density of each layer: Erdős-Rényi (ERK), denser in small layers, or uniform."""
    every: int = Field(100, ge=1)
    """Steps between two changes of the connections."""
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of a layer's connections that the first change replaces; it decays along a cosine."""
    end: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the steps after which connections no longer change."""
    layers: tuple[str, ...] = ("*",)
    """Paths of linear layers and experts, with `*` as in file names, which leaves routers out."""

    def build(self, model: nn.Module, seed: int, steps: int) -> "Connections":
        """Return the connections of a model, drawn by the seed.

        Raises:
            RecipeError: a path matches no linear layer.
        """
        chosen = matching(model, self.layers, "sparse.layers")
        shapes = {f"{path}.weight": matrix(layer).shape for path, layer in chosen.items()}
        dense = densities(shapes, self.sparsity, self.densities == "erk")
        masks = {name: _drawn(name, shapes[name], dense[name], seed) for name in shapes}
        return Connections(self, masks, steps)


def _drawn(name: str, shape: tuple[int, ...], density: float, seed: int) -> mx.array:
    """Draw the mask of a layer: uint8, exactly its share of ones."""
    size = int(np.prod(shape))
    mask = np.zeros(size, np.uint8)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    mask[rng.permutation(size)[: round(density * size)]] = 1
    return mx.array(mask.reshape(shape))


def _largest(weights: mx.array, mask: mx.array) -> mx.array:
    """Return a mask of the largest weights, with as many ones as `mask`; of equals the first."""
    sizes = np.abs(np.array(weights.astype(mx.float32))).ravel()
    new_mask = np.zeros(sizes.size, np.uint8)
    new_mask[np.argsort(-sizes, kind="stable")[: int(np.array(mask).sum())]] = 1
    return mx.array(new_mask.reshape(mask.shape))


class Connections:
    """The active connections of a model while it is trained.

    Attributes:
        state: `masks`, a tree of 0 and 1 in the shapes of the weights; checkpoints hold it.
    """

    def __init__(self, config: Sparse, masks: dict[str, mx.array], steps: int) -> None:
        self.config, self.steps = config, steps
        self.state: dict[str, Any] = {"masks": tree_unflatten(list(masks.items()))}

    @property
    def masks(self) -> dict[str, mx.array]:
        """The masks by the names of their weights."""
        return dict(tree_flatten(self.state["masks"]))

    def adopt(self, params: Tree) -> None:
        """Make the largest weights of each layer its active connections, as many as before.

        A source's zeros stay zeros if it was trained as sparsely; a dense one is pruned by
        magnitude. The masks are replaced.
        """
        weights = dict(tree_flatten(params))
        masks = [
            (name, _largest(weights[name], mask) if name in weights else mask)
            for name, mask in self.masks.items()
        ]
        self.state["masks"] = tree_unflatten(masks)

    def masked(self, tree: Tree) -> Tree:
        """Return a tree of parameters or gradients, 0 where a connection is not active."""
        return under_masks(tree, self.masks)

    def settle(
        self, before: Tree, after: Tree, grads: Tree, progress: mx.array, finite: mx.array
    ) -> Tree:
        """Return the weights after an update, 0 where a connection is not active."""
        return self.masked(after)

    def stats(self) -> dict[str, mx.array]:
        """Nothing for the log: the share of zeros is constant."""
        return {}

    def due(self, index: int) -> bool:
        """Return whether connections change before the update of step `index`, from 0."""
        c = self.config
        changes = c.method != "static" and index > 0 and index % c.every == 0
        return changes and index < c.end * self.steps

    def rewire(
        self, params: Tree, grads: Tree, moments: Tree, progress: mx.array, key: mx.array
    ) -> tuple[Tree, Tree]:
        """Drop and grow connections; the masks change in place.

        Args:
            params: the weights.
            grads: their dense gradients.
            moments: the state of the optimizer.
            progress: share of the steps that are done.
            key: PRNG key of the connections that grow at random.

        Returns:
            The weights, 0 where a connection has grown, and the moments, 0 where it is new or gone.
        """
        weights, slopes, masks = dict(tree_flatten(params)), dict(tree_flatten(grads)), self.masks
        fraction = update_fraction(progress, self.config.end, self.config.fraction)
        keys = mx.random.split(key, len(masks))
        stayed = {}
        for (name, mask), layer_key in zip(masks.items(), keys, strict=True):
            scores = slopes[name]
            if self.config.method == "set":
                scores = mx.random.uniform(shape=mask.shape, key=layer_key)
            weights[name], masks[name] = drop_and_grow(weights[name], mask, scores, fraction)
            stayed[name] = mask * masks[name]
        self.state["masks"] = tree_unflatten(list(masks.items()))
        new_moments = [(path, _kept(path, leaf, stayed)) for path, leaf in tree_flatten(moments)]
        return tree_unflatten(list(weights.items())), tree_unflatten(new_moments)


def _kept(path: str, leaf: mx.array, stayed: dict[str, mx.array]) -> mx.array:
    """Return an array of the optimizer, 0 where a connection is new or gone."""
    for name, mask in stayed.items():
        if f".{name}." in f".{path}" and leaf.shape == mask.shape:
            return leaf * mask.astype(leaf.dtype)
    return leaf
