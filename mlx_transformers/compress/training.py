"""Compression during training: tables `[quantize]` (QAT) and `[prune]` of a recipe."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten
from pydantic import Field, model_validator

from ..core.errors import RecipeError
from ..core.tree import Tree
from ..layers.linear import matrix
from ..layers.packed import LayerPacking, check_fit, divisible
from ..ops.packed import Packing, straight_through
from ..ops.pruning import n_of_m_mask
from ..recipe.config import Config
from .capture import linear_layers, weight_layers
from .movement import Movement, MovementMasks, largest

Share = Annotated[float, Field(ge=0, le=1)]


class Quantize(LayerPacking):
    """Quantization-aware training: linear layers and experts compute with rounded weights; the
    gradient of the rounding is straight-through (Bengio et al. 2013; Jacob et al. 2018).

    Weights are stored in float32. Evaluation uses the rounded weights, as `mlxt quantize RUN` with
    the same bits writes them. Frozen layers (`train.freeze`) are rounded too.
    """

    layers: tuple[str, ...] = ("*",)
    """Paths of linear layers and experts, with `*` as in file names, which leaves routers out;
    layers whose width is no multiple of the group are not rounded."""
    start: Share = 0.0
    """Share of the steps after which rounding begins."""

    def build(self, model: nn.Module) -> "FakeQuantizer":
        """Return the fake quantizer of a model's linear layers and experts.

        Raises:
            RecipeError: a path matches no linear layer, or a group doesn't divide one.
        """
        matched = matching(model, self.layers, "quantize.layers")
        chosen = {path: layer for path, layer in matched.items() if divisible(layer)}
        for path, layer in chosen.items():
            check_fit(path, layer, self.how)
        return FakeQuantizer({f"{path}.weight" for path in chosen}, self.how, self.start)


class FakeQuantizer:
    """`(params, held, progress) -> params`, with the weights of some layers rounded."""

    def __init__(self, names: set[str], how: Packing, start: float) -> None:
        self.names, self.how, self.start = names, how, start

    def __call__(self, params: Tree, held: Tree, progress: mx.array | None) -> Tree:
        """Return the trained parameters and the frozen weights of the layers, rounded.

        Args:
            params: the trained parameters.
            held: all parameters of the model, of which frozen weights are read.
            progress: share of the steps that are done; None in an evaluation.
        """
        trained = dict(tree_flatten(params))
        frozen = {
            name: array for name, array in tree_flatten(held) if name in self.names - {*trained}
        }

        def one(name: str, array: mx.array) -> mx.array:
            if name not in self.names:
                return array
            rounded = straight_through(array, self.how)
            if progress is None or self.start == 0:
                return rounded
            return mx.where(progress >= self.start, rounded, array)

        return tree_unflatten(
            [(name, one(name, weight)) for name, weight in (trained | frozen).items()]
        )


class Prune(Config):
    """Gradual pruning of linear layers, by magnitude or by movement, along a cubic schedule.

    The sparsity is `s(t) = s_end + (s_start - s_end) (1 - t)³` between `start` and `end`; after
    each step the smallest weights of every layer are set to 0 and stay 0 (Zhu and Gupta 2017,
    equation 1). With `sparsity = 0`, zeros of the initial weights stay 0 and no others are added.
    With `movement`, the weights of the smallest scores are 0 and may come back.
    """

    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each layer's weights that is 0 at the end."""
    first: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share at the start."""
    start: Share = 0.0
    """Share of the steps after which pruning begins."""
    end: Share = 0.75
    """Share of the steps after which `sparsity` is reached; the others recover the loss."""
    n_of_m: tuple[int, int] | None = None
    """Keep n of every m consecutive inputs from `start` on, as in [2, 4]; replaces `sparsity`."""
    movement: Movement | None = None
    """Learned scores that decide which weights are pruned. None: their magnitude decides."""
    layers: tuple[str, ...] = ("*",)
    """Paths of linear layers and experts, with `*` as in file names; `*` alone skips frozen layers
    and routers."""

    @model_validator(mode="after")
    def _one_criterion(self) -> "Prune":
        if self.movement is None:
            return self
        soft = self.movement.threshold is not None
        if soft and (self.sparsity or self.first or self.n_of_m is not None):
            raise ValueError(
                "prune.movement.threshold leaves the share of zeros to the scores: leave out "
                "sparsity, first and n_of_m, or the threshold."
            )
        if not soft and not self.sparsity and self.n_of_m is None:
            raise ValueError(
                "prune.movement makes no zeros by itself: set prune.sparsity, prune.n_of_m or "
                "prune.movement.threshold."
            )
        return self

    @model_validator(mode="after")
    def _in_order(self) -> "Prune":
        if self.start >= self.end:
            raise ValueError(f"prune.start = {self.start} is not before prune.end = {self.end}.")
        if self.first > self.sparsity:
            raise ValueError(f"prune.first = {self.first} exceeds sparsity = {self.sparsity}.")
        if self.n_of_m is not None and not 0 < self.n_of_m[0] < self.n_of_m[1]:
            raise ValueError(f"prune.n_of_m = {list(self.n_of_m)} keeps no n of a larger m.")
        if self.n_of_m is not None and (self.sparsity or self.first):
            raise ValueError("prune.n_of_m and prune.sparsity both choose the zeros: set one.")
        return self

    def build(self, model: nn.Module) -> "Pruner":
        """Return the pruner of a model's linear layers and experts.

        Raises:
            RecipeError: a path matches no linear layer or a frozen one, or m doesn't divide one.
        """
        trained = dict(tree_flatten(model.trainable_parameters()))
        makes_zeros = bool(self.sparsity or self.n_of_m or self.movement)
        chosen: dict[str, nn.Module] = {}
        for pattern in self.layers:
            matched = matching(model, (pattern,), "prune.layers")
            frozen = [path for path in matched if f"{path}.weight" not in trained]
            if makes_zeros and frozen and (pattern != "*" or len(frozen) == len(matched)):
                raise RecipeError(
                    f"prune.layers: '{pattern}' matches {frozen[0]}, which is frozen (train.freeze "
                    "or adapters) and keeps its weights: name layers that are trained."
                )
            chosen |= {path: layer for path, layer in matched.items() if path not in frozen}
        for path, layer in chosen.items():
            width = matrix(layer).shape[-1]
            if self.n_of_m is not None and width % self.n_of_m[1]:
                raise RecipeError(
                    f"The layer {path} has {width} inputs, which don't divide into groups of "
                    f"{self.n_of_m[1]}: leave it out of prune.layers."
                )
        return Pruner(self, {f"{path}.weight": matrix(m).shape for path, m in chosen.items()})


class Pruner:
    """`(before, after, progress) -> params`: sets the weights of an updated model to 0."""

    def __init__(self, config: Prune, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.config, self.shapes = config, shapes

    def __call__(self, before: Tree, after: Tree, progress: mx.array) -> Tree:
        """Return the parameters after an update, with zeros kept and new ones set.

        Args:
            before: the parameters before the update.
            after: those after it.
            progress: share of the steps that are done.
        """
        previous = dict(tree_flatten(before))
        out = [
            (name, self._pruned(previous[name], array, progress) if name in self.shapes else array)
            for name, array in tree_flatten(after)
        ]
        return tree_unflatten(out)

    def movement(self) -> MovementMasks | None:
        """The masks of movement pruning; None without `movement`."""
        how = self.config.movement
        return None if how is None else MovementMasks(how, self.shapes, self._chosen)

    def sparsity(self, progress: mx.array) -> mx.array:
        """The share of zeros at a point of the run."""
        return self._scheduled(progress, self.config.first, self.config.sparsity)

    def _scheduled(self, progress: mx.array, first: float, last: float) -> mx.array:
        c = self.config
        t = mx.clip((progress - c.start) / (c.end - c.start), 0, 1)
        return last + (first - last) * (1 - t) ** 3

    def _chosen(self, scores: mx.array, progress: mx.array) -> mx.array:
        """The mask of weights that their scores keep."""
        assert self.config.movement is not None
        threshold = self.config.movement.threshold
        if threshold is not None:
            mask = mx.sigmoid(scores) > self._scheduled(progress, 0.0, threshold)
        elif self.config.n_of_m is not None:
            mask = n_of_m_mask(scores, *self.config.n_of_m)
        else:
            mask = largest(scores, self.sparsity(progress))
        return mask | (progress < self.config.start)

    def _pruned(self, before: mx.array, after: mx.array, progress: mx.array) -> mx.array:
        weight = mx.where(before == 0, 0, after)
        size = mx.abs(weight)
        if self.config.n_of_m is not None:
            mask = n_of_m_mask(size, *self.config.n_of_m)
        else:
            ranked = mx.sort(size.reshape(-1))
            n = mx.floor(self.sparsity(progress) * ranked.size).astype(mx.int32)
            mask = size >= ranked[mx.minimum(n, ranked.size - 1)]
        return mx.where(mask | (progress < self.config.start), weight, 0)


def matching(model: nn.Module, patterns: Sequence[str], key: str) -> dict[str, nn.Module]:
    """Return the linear layers and stacks of experts whose paths match one of some patterns.

    Routers match a pattern that matches nothing else.

    Raises:
        RecipeError: a pattern matches none.
    """
    usual, linear = weight_layers(model), linear_layers(model)
    chosen: dict[str, nn.Module] = {}
    for pattern in patterns:
        found = _matched(usual, pattern) or _matched(linear, pattern)
        if not found:
            raise RecipeError(
                f"{key}: '{pattern}' matches no linear layer. mlxt show --modules lists them, such "
                f"as {next(iter(linear), 'none')}."
            )
        chosen |= found
    return dict(sorted(chosen.items()))


def _matched(layers: Mapping[str, nn.Module], pattern: str) -> dict[str, nn.Module]:
    return {path: layer for path, layer in layers.items() if fnmatchcase(path, pattern)}
