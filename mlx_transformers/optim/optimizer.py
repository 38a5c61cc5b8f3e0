"""The base of all optimizers: learning rate, schedule, parameter groups and weight decay."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Literal, Self

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim
from mlx.utils import tree_flatten
from pydantic import Field, model_validator

from ..core.errors import RecipeError
from ..layers.parameter import Role, layers_above, parameters_of
from ..recipe.slot import Slot
from .kinds import MAX_LEARNING_RATE, OptimizerKind, Schedule, ScheduleKind
from .layerwise import RateTransform, layer_rate, unchanged
from .schedules import Constant

Filter = Callable[[str, mx.array], bool]
"""Whether a parameter belongs to a group, by its dotted path and its array."""
Group = tuple[Filter, mlx_optim.Optimizer]
"""A parameter group and its optimizer; earlier groups take precedence."""


class Optimizer(OptimizerKind):
    """The table `[optim]`: an optimizer and its learning rate.

    Optimizer state takes the dtype of the parameters. Master weights stay float32: in bfloat16 a
    learning rate of 1e-4 is less than half the distance between 1 and the next number, so such
    weights would not move. `train.dtype` lowers the precision of the forward and backward alone.
    """

    learning_rate: float = Field(gt=0.0, le=MAX_LEARNING_RATE)
    """Peak learning rate, which `schedule` shapes."""
    schedule: Annotated[ScheduleKind, Slot("schedule")] = Constant()
    """Learning-rate schedule."""
    layer_factor: float = Field(default=1.0, ge=1.0)
    """Layer-wise learning-rate decay: the learning rate of each layer is this many times that of
    the layer below (2.6 in ULMFiT: Howard & Ruder 2018, section 3.2). Heads have the schedule's
    learning rate. 1 turns it off."""
    unfreeze_every: int | None = Field(default=None, ge=1)
    """Gradual unfreezing: updates between the start of one layer and of the next lower one, the
    head first (Howard & Ruder 2018, section 3.3: an epoch). None trains all from the start. The
    moments of a layer that waits are updated already."""

    @property
    def pointwise(self) -> bool:
        """Whether the update of each element depends on no other element of its array."""
        return True

    def rate(self, total_steps: int) -> Schedule:
        """Return the learning rate as a function of the update."""
        return self.schedule.build(self.learning_rate, total_steps)

    @abstractmethod
    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        """Return the MLX optimizer of the parameters that share one weight decay."""

    def groups(self, model: nn.Module, total_steps: int, transform: RateTransform) -> list[Group]:
        """Return the parameter groups, with transformed learning rates; the last takes the rest."""
        return [(everything, self.group(transform(self.rate(total_steps)), 0.0))]

    def split(self, model: nn.Module, total_steps: int) -> mlx_optim.Optimizer:
        """Return the optimizer of all parameter groups, its state not made yet.

        Raises:
            RecipeError: the run ends before the lowest layer begins to learn.
        """
        if self.layer_factor == 1.0 and self.unfreeze_every is None:
            return joined(self.groups(model, total_steps, unchanged))
        trained = dict(tree_flatten(model.trainable_parameters()))
        above = {path: n for path, n in layers_above(model).items() if path in trained}
        self._all_begin(max(above.values()), total_steps)
        groups: list[Group] = []
        for height in sorted(set(above.values())):
            layer_change = layer_rate(height, self.layer_factor, self.unfreeze_every)
            for belongs, optimizer in self.groups(model, total_steps, layer_change):
                groups.append((at_height(above, height, belongs), optimizer))
        return joined(groups)

    def _all_begin(self, lowest: int, total_steps: int) -> None:
        begins = (self.unfreeze_every or 0) * lowest
        if begins >= total_steps:
            raise RecipeError(
                f"optim.unfreeze_every = {self.unfreeze_every} lets the lowest of {lowest + 1} "
                f"layers begin at update {begins}, and the run ends at {total_steps}: take "
                f"{max(1, (total_steps - 1) // lowest)} or fewer, or raise train.steps."
            )


class DecayingOptimizer(Optimizer):
    """An optimizer with weight decay, and a choice of what is decayed."""

    weight_decay: float = Field(default=0.0, ge=0.0)
    """Weight decay; the formula is the kind's."""
    decay: Literal["matrices", "all"] = "matrices"
    """Parameters that are decayed: weight matrices and embedding tables (not biases, gains of norms
    and other vectors), or all. A parameter with the role `own` is never decayed."""

    @model_validator(mode="after")
    def _decay_keeps_the_sign_of_weights(self) -> Self:
        # Adafactor may have no learning rate.
        shrinks = (self.learning_rate or 0.0) * self.weight_decay
        if shrinks >= 1.0:
            raise ValueError(
                f"optim.learning_rate · optim.weight_decay = {shrinks:g}: each update subtracts "
                "that share of every weight, so from 1 on weights change their sign. Lower one."
            )
        return self

    def groups(self, model: nn.Module, total_steps: int, transform: RateTransform) -> list[Group]:
        rate = transform(self.rate(total_steps))
        if self.weight_decay == 0.0:
            return [(everything, self.group(rate, 0.0))]
        return self.decay_groups(model, lambda decay: self.group(rate, decay))

    def decay_groups(
        self, model: nn.Module, group: Callable[[float], mlx_optim.Optimizer]
    ) -> list[Group]:
        """Return the parameters that are decayed and those that are not; `group` takes a decay."""
        if self.decay == "matrices":
            decayed = of_role(model, "matrix", "table")
        elif not any(parameter.role == "own" for parameter in parameters_of(model)):
            return [(everything, group(self.weight_decay))]
        else:
            decayed = of_role(model, "matrix", "table", "vector", "bias")
        return [(decayed, group(self.weight_decay)), (everything, group(0.0))]


def joined(groups: list[Group]) -> mlx_optim.Optimizer:
    """Join groups into one optimizer."""
    optimizers = [optimizer for _, optimizer in groups]
    if len(optimizers) == 1:
        return optimizers[0]
    return mlx_optim.MultiOptimizer(optimizers, [belongs for belongs, _ in groups[:-1]])


def everything(path: str, parameter: mx.array) -> bool:
    """Accept every parameter."""
    return True


def at_height(above: dict[str, int], height: int, belongs: Filter) -> Filter:
    """Accept the members of a group that have `height` layers above them."""
    return lambda path, parameter: above[path] == height and belongs(path, parameter)


def of_role(model: nn.Module, *roles: Role) -> Filter:
    """Accept the model's parameters of these roles."""
    paths = {parameter.path for parameter in parameters_of(model) if parameter.role in roles}
    return lambda path, parameter: path in paths


def learning_rate(optimizer: mlx_optim.Optimizer) -> mx.array:
    """Return the learning rate of the last update (before the first one: of the first one).

    Of several groups, that of the first. A lazy scalar: it costs nothing until it is read.
    """
    return optimizer.learning_rate
