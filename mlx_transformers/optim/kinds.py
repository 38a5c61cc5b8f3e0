"""Abstract config classes of the slots `optim`, `schedule` and `clip`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim
from pydantic import Field

from ..core.tree import Tree
from ..recipe.config import Kind
from .periodic import CurvatureKind

MAX_DECAY = 0.9999999
"""Largest decay rate of an average: from about 0.99999997 on, float32 rounds it to 1."""
MAX_LEARNING_RATE = 1e4
"""Largest learning rate; any optimizer diverges far below it."""
Eps = Annotated[float, Field(ge=1e-30, le=100.0)]
"""Constant added to a divisor: float32 rounds much smaller ones to 0, and much larger ones leave no
update."""

Schedule = Callable[[mx.array], mx.array]
"""Learning rate as a function of the update: an integer scalar from 0 -> a float32 scalar."""
Norm = Callable[[Tree], mx.array]
"""Norm of all gradients, those of other tensor-parallel processes included."""
Clip = Callable[[Tree, Tree], tuple[Tree, mx.array]]
"""`(gradients, parameters) -> (clipped gradients, their norm before clipping)`."""


class ScheduleKind(Kind, ABC):
    """Slot `schedule`: the learning rate over the updates of a run."""

    @abstractmethod
    def build(self, learning_rate: float, total_steps: int) -> Schedule:
        """Return the schedule of a run of `total_steps` updates that peaks at `learning_rate`."""


class ClipKind(Kind, ABC):
    """Slot `clip`: gradient clipping."""

    pointwise: ClassVar[bool]
    """Whether a part of an array is clipped like the whole, given the norm of all gradients."""

    @abstractmethod
    def build(self, norm_of: Norm) -> Clip:
        """Return the clipping function; `norm_of` computes the norm of all gradients."""


class OptimizerKind(Kind, ABC):
    """Slot `optim`: an optimizer with its schedule and parameter groups."""

    @property
    @abstractmethod
    def pointwise(self) -> bool:
        """Whether the update of each element depends on no other element of its array."""

    @property
    def curvature(self) -> CurvatureKind | None:
        """The estimate of the curvature that the training step supplies; None: none."""
        return None

    @property
    def periodic(self) -> bool:
        """Whether it does work between updates, or keeps an average of the weights itself, for
        which a process needs the state of all parameters."""
        return self.curvature is not None or self.averages or self.refreshes

    @property
    def refreshes(self) -> bool:
        """Whether it recomputes a preconditioner between updates."""
        return False

    @property
    def averages(self) -> bool:
        """Whether the weights to use are averages that the optimizer keeps."""
        return False

    @abstractmethod
    def split(self, model: nn.Module, total_steps: int) -> mlx_optim.Optimizer:
        """Return the optimizer of all parameter groups of a model, its state not made yet.

        Raises:
            RecipeError: the options don't fit the model or the length of the run.
        """

    def build(self, model: nn.Module, total_steps: int) -> mlx_optim.Optimizer:
        """Return an optimizer of the model's trainable parameters, with evaluated state.

        `update(model, gradients)` may be called inside `mx.compile` with `optimizer.state`
        captured. Freezing or unfreezing parameters later needs a new optimizer.

        Raises:
            RecipeError: as `split`.
        """
        return ready(self.split(model, total_steps), model)


def ready(optimizer: mlx_optim.Optimizer, model: nn.Module) -> mlx_optim.Optimizer:
    """Make and evaluate the optimizer's state, so that a compiled function captures all of it."""
    optimizer.init(model.trainable_parameters())
    mx.eval(optimizer.state)
    return optimizer
