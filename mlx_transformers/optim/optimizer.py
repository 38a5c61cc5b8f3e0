"""What every optimizer's table shares: a rate, a schedule, and who is touched by weight decay."""

from collections.abc import Callable
from typing import Annotated, Literal

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim
from pydantic import Field

from ..recipe.config import Kind
from ..recipe.slot import Slot
from .schedules import Constant, Schedule

Filter = Callable[[str, mx.array], bool]
"""Whether a parameter belongs to a group, by its dotted path and its value."""


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

    def rate(self, total_steps: int) -> Schedule:
        """The learning rate of each update."""
        return self.schedule.build(self.learning_rate, total_steps)

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        """The MLX optimizer of the parameters that share one weight decay."""
        raise NotImplementedError(f"{type(self).__name__} makes no optimizer.")

    def split(self, model: nn.Module, total_steps: int) -> mlx_optim.Optimizer:
        """The optimizer of all parameters, groups included; not initialised yet."""
        return self.group(self.rate(total_steps), 0.0)

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

    def split(self, model: nn.Module, total_steps: int) -> mlx_optim.Optimizer:
        rate = self.rate(total_steps)
        if self.weight_decay == 0.0 or self.decay == "all":
            return self.group(rate, self.weight_decay)
        groups = [self.group(rate, self.weight_decay), self.group(rate, 0.0)]
        return mlx_optim.MultiOptimizer(groups, [is_matrix])


def ready(optimizer: mlx_optim.Optimizer, model: nn.Module) -> mlx_optim.Optimizer:
    """The optimizer with its state made and evaluated, so that a trace finds all of it."""
    optimizer.init(model.trainable_parameters())
    mx.eval(optimizer.state)
    return optimizer


def is_matrix(path: str, parameter: mx.array) -> bool:
    """Whether the parameter multiplies: two dimensions or more, and no stack of biases."""
    return parameter.ndim >= 2 and path.rpartition(".")[2] != "bias"


def learning_rate(optimizer: mlx_optim.Optimizer) -> mx.array:
    """The rate that the last update used (before the first one: the rate it will use).

    Of several groups, the first one's. A lazy scalar: reading it costs nothing until printed.
    """
    return optimizer.learning_rate
