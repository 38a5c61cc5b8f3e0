"""Learning rates that transfer across widths: the rates of μP (maximal update parametrization).

    rate of matrices = rate · base_dim / dim        other parameters: rate

Yang et al. 2022, "Tensor Programs V", table 3, Adam: weights whose inputs grow with the width move
by less, so that a step changes the activations as much at any width. The init kind `mup` goes with
it.
"""

from typing import Self

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim
from pydantic import Field, model_validator

from ..core.errors import RecipeError
from ..layers.parameter import parameters_of
from .kinds import Schedule
from .layerwise import unchanged
from .optimizer import Filter, Optimizer, joined, of_role


class WidthTransfer(Optimizer):
    """An optimizer whose updates don't depend on the scale of the gradient, with μP's rates."""

    base_dim: int | None = Field(None, ge=1)
    """Width of the model that the learning rate was tuned on (μP): matrices of a model of width dim
    learn at base_dim / dim of it. It goes with `model.init.kind = "mup"`; none turns it off."""

    @model_validator(mode="after")
    def _scales_by_one_rule(self) -> Self:
        if self.base_dim and (self.layer_factor != 1.0 or self.unfreeze_every is not None):
            raise ValueError(
                "base_dim scales rates by width, and layer_factor and unfreeze_every by layer: "
                "leave one of them out."
            )
        return self

    def split(self, model: nn.Module, total_steps: int) -> mlx_optim.Optimizer:
        if self.base_dim is None:
            return super().split(model, total_steps)
        scale, matrices = self.base_dim / width_of(model), of_role(model, "matrix")

        def narrowed(rate: Schedule) -> Schedule:
            return lambda step: rate(step) * scale

        usual = self.groups(model, total_steps, unchanged)
        scaled = self.groups(model, total_steps, narrowed)
        return joined(
            [(_without(belongs, matrices), optimizer) for belongs, optimizer in usual] + scaled
        )


def width_of(model: nn.Module) -> int:
    """Return the width of a model, that of its embeddings.

    Raises:
        RecipeError: it has no embedding table.
    """
    for parameter in parameters_of(model):
        if parameter.role == "table":
            return int(parameter.array.shape[-1])
    raise RecipeError("optim.base_dim scales by the width of embeddings, and the model has none.")


def _without(belongs: Filter, others: Filter) -> Filter:
    """Accept the members of a group that don't belong to others."""

    def accept(path: str, parameter: mx.array) -> bool:
        return belongs(path, parameter) and not others(path, parameter)

    return accept
