"""What every optimizer's table shares: a rate, a schedule, and who is touched by weight decay."""

from collections.abc import Callable
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim
from mlx.utils import tree_flatten
from pydantic import Field

from ..core.errors import RecipeError
from ..recipe.config import Kind
from ..recipe.slot import Slot
from .layerwise import Shape, heights, shape, unchanged
from .schedules import Constant, Schedule

Filter = Callable[[str, mx.array], bool]
"""Whether a parameter belongs to a group, by its dotted path and its value."""
Group = tuple[Filter, mlx_optim.Optimizer]
"""Parameters that no group before this one has, and what updates them."""


class Optimizer(Kind):
    """A table `[optim]`: what one update does with the gradients.

    Optimizer state takes the dtype of the parameters, and in bfloat16 a rate of 1e-4 is less
    than half the distance between 1 and the next number: such weights stand still. Train
    float32 masters; compute in a lower precision inside the loss.
    """

    learning_rate: float = Field(gt=0.0)
    """The peak rate, which `schedule` shapes."""
    schedule: Annotated[Kind, Slot("schedule")] = Constant()
    """How the rate changes over the run."""
    layer_factor: float = Field(default=1.0, ge=1.0)
    """What the rate of a layer is over that of the layer below it: 2.6 in ULMFiT (Howard & Ruder
    2018, section 3.2). What answers has the rate of the schedule; 1 gives it to all."""
    unfreeze_every: int | None = Field(default=None, ge=1)
    """Updates until the next lower layer begins to learn, what answers being first (gradual
    unfreezing: Howard & Ruder 2018, section 3.3, an epoch); none: all learn from the start. The
    moments of a layer that waits follow its gradients."""

    @property
    def pointwise(self) -> bool:
        """Whether what happens to a number depends on nothing else of its array."""
        return True

    def rate(self, total_steps: int) -> Schedule:
        """The learning rate of each update."""
        return self.schedule.build(self.learning_rate, total_steps)

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        """The MLX optimizer of the parameters that share one weight decay."""
        raise NotImplementedError(f"{type(self).__name__} makes no optimizer.")

    def groups(self, model: nn.Module, total_steps: int, shape: Shape) -> list[Group]:
        """The groups of parameters whose rate is of one shape; the last takes all that is left."""
        return [(everything, self.group(shape(self.rate(total_steps)), 0.0))]

    def split(self, model: nn.Module, total_steps: int) -> mlx_optim.Optimizer:
        """The optimizer of all parameters, groups included; not initialised yet.

        Raises:
            RecipeError: the run ends before the lowest layer begins to learn.
        """
        if self.layer_factor == 1.0 and self.unfreeze_every is None:
            return joined(self.groups(model, total_steps, unchanged))
        above = heights(path for path, _ in tree_flatten(model.trainable_parameters()))
        self._all_begin(max(above.values()), total_steps)
        found: list[Group] = []
        for height in sorted(set(above.values())):
            own = shape(height, self.layer_factor, self.unfreeze_every)
            for belongs, optimizer in self.groups(model, total_steps, own):
                found.append((at_height(above, height, belongs), optimizer))
        return joined(found)

    def _all_begin(self, lowest: int, total_steps: int) -> None:
        begins = (self.unfreeze_every or 0) * lowest
        if begins >= total_steps:
            raise RecipeError(
                f"optim.unfreeze_every = {self.unfreeze_every} lets the lowest of {lowest + 1} "
                f"layers begin at update {begins}, and the run ends at {total_steps}: take "
                f"{max(1, (total_steps - 1) // lowest)} or fewer, or raise train.steps."
            )

    def build(self, model: nn.Module, total_steps: int) -> mlx_optim.Optimizer:
        """An optimizer of the model's trainable parameters, its state initialised and evaluated.

        `update(model, gradients)` may be called inside `mx.compile` with `optimizer.state`
        captured. Freezing or unfreezing parameters later needs a new optimizer.
        """
        return ready(self.split(model, total_steps), model)


class DecayingOptimizer(Optimizer):
    """An optimizer with weight decay, and the choice of what it touches."""

    weight_decay: float = Field(default=0.0, ge=0.0)
    """How strongly weights are pulled to 0; the formula is the kind's."""
    decay: Literal["matrices", "all"] = "matrices"
    """What is decayed: parameters of two or more dimensions (embeddings included; not biases,
    gains of norms and other vectors), or all of them."""

    def groups(self, model: nn.Module, total_steps: int, shape: Shape) -> list[Group]:
        rate = shape(self.rate(total_steps))
        if self.weight_decay == 0.0 or self.decay == "all":
            return [(everything, self.group(rate, self.weight_decay))]
        return [
            (is_matrix, self.group(rate, self.weight_decay)),
            (everything, self.group(rate, 0.0)),
        ]


def joined(groups: list[Group]) -> mlx_optim.Optimizer:
    """One optimizer of all groups."""
    filters, optimizers = zip(*groups, strict=True)
    if len(optimizers) == 1:
        return optimizers[0]
    return mlx_optim.MultiOptimizer(list(optimizers), list(filters[:-1]))


def ready(optimizer: mlx_optim.Optimizer, model: nn.Module) -> mlx_optim.Optimizer:
    """The optimizer with its state made and evaluated, so that a trace finds all of it."""
    optimizer.init(model.trainable_parameters())
    mx.eval(optimizer.state)
    return optimizer


def everything(path: str, parameter: mx.array) -> bool:
    """Whatever it is."""
    return True


def at_height(above: dict[str, int], height: int, belongs: Filter) -> Filter:
    """Those of a group that have so many layers above them."""
    return lambda path, parameter: above[path] == height and belongs(path, parameter)


def is_matrix(path: str, parameter: mx.array) -> bool:
    """Whether the parameter multiplies: two dimensions or more, and no stack of biases."""
    return parameter.ndim >= 2 and path.rpartition(".")[2] != "bias"


def learning_rate(optimizer: mlx_optim.Optimizer) -> mx.array:
    """The rate that the last update used (before the first one: the rate it will use).

    Of several groups, the first one's. A lazy scalar: reading it costs nothing until printed.
    """
    return optimizer.learning_rate
