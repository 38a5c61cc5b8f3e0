"""Schedule-free AdamW: an average of the iterates takes the place of a falling learning rate."""

from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from pydantic import Field, model_validator

from ..core.tree import Tree
from .adam import Betas
from .kinds import Eps, Schedule
from .optimizer import DecayingOptimizer
from .periodic import groups_of, parameter_paths, state_at


class AveragedAdam(mlx_optim.Optimizer):
    """AdamW whose parameters are the points y at which gradients are taken; z is state."""

    def __init__(
        self,
        rate: Schedule,
        *,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        power: float,
        rate_power: float,
    ) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", rate)
        self.betas, self.eps, self.decay = betas, eps, weight_decay
        self.power, self.rate_power = power, rate_power
        self.state["largest_rate"] = mx.array(0.0)
        self.state["weights"] = mx.array(0.0)

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Make z, equal to the parameter, and a zero second moment."""
        state["z"], state["v"] = parameter + 0.0, mx.zeros_like(parameter)

    def apply_gradients(
        self, gradients: dict[str, Any], parameters: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the next points y of all parameters."""
        if not self._initialized:
            self.init(tree_map(lambda _, parameter: parameter, gradients, parameters))
        t, rate = self.step.astype(mx.float32) + 1.0, self._schedulers["learning_rate"](self.step)
        self.state["largest_rate"] = mx.maximum(self.state["largest_rate"], rate)
        weight = mx.power(t, self.power) * mx.power(self.state["largest_rate"], self.rate_power)
        self.state["weights"] = self.state["weights"] + weight
        total = self.state["weights"]
        self._share = mx.where(total > 0, weight / mx.where(total > 0, total, 1.0), 0.0)
        return super().apply_gradients(gradients, parameters)

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return the next point y of one parameter."""
        rate, share = self.learning_rate, self._share
        b1, b2 = self.betas
        z: mx.array = state["z"]
        v = state["v"] = b2 * state["v"] + (1 - b2) * mx.square(gradient)
        root = mx.sqrt(v / (1 - mx.power(b2, self.step.astype(mx.float32)))) + self.eps
        update = gradient / root + self.decay * parameter
        state["z"] = z - rate * update
        return parameter + share * (z - parameter) + rate * (b1 * (1 - share) - 1) * update


class IterateAverage:
    """The averages `x = z + (y - z) / b1` of a model whose parameters are y.

    `state` is the optimizer's, from which they are computed: capture it in `mx.compile`.
    """

    def __init__(self, optimizer: mlx_optim.Optimizer, model: nn.Module) -> None:
        self.optimizer, self.model = optimizer, model

    @property
    def state(self) -> Tree:
        """The state of the optimizer."""
        return self.optimizer.state

    @property
    def average(self) -> Tree:
        """The averaged parameters, in the structure of those that are trained."""
        trained = dict(tree_flatten(self.model.trainable_parameters()))
        averages: dict[str, mx.array] = {}
        for part in groups_of(self.optimizer):
            assert isinstance(part, AveragedAdam)
            for path in parameter_paths(part.state):
                z, y = state_at(part, path)["z"], trained[path]
                averages[path] = z + (y - z) / part.betas[0]
        return tree_unflatten([(path, averages[path]) for path in trained])


class ScheduleFree(DecayingOptimizer):
    """Schedule-free AdamW (Defazio et al. 2024, algorithm 1).

        y = (1 - b1) z + b1 x                    gradients are taken at y
        z = z - rate · (g / (sqrt(v̂) + eps) + weight_decay · y)
        x = (1 - c) x + c z                      c = weight / sum of weights so far

    `weight` is `t^power · largest_rate^rate_power`. The run's parameters are y; evaluations,
    checkpoints' averages and exports use x. Take the schedule `constant` with a warm-up.
    """

    kind: Literal["schedule_free"] = "schedule_free"
    betas: Betas = (0.9, 0.999)
    """Weight of the average in y, above 0, and decay rate of the second moment."""
    eps: Eps = 1e-8
    """Added to the root, so that a gradient of 0 is not divided by 0."""
    power: float = Field(default=0.0, ge=0.0)
    """Exponent of the update's number in the weights of the average."""
    rate_power: float = Field(default=2.0, ge=0.0)
    """Exponent of the largest learning rate so far in the weights of the average."""

    @model_validator(mode="after")
    def _average_can_be_told(self) -> "ScheduleFree":
        if self.betas[0] == 0.0:
            raise ValueError("optim.betas begins with the weight of the average: set it above 0.")
        return self

    @property
    def averages(self) -> bool:
        """True: x, and not y, is evaluated, saved as the average, and exported."""
        return True

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        return AveragedAdam(
            rate,
            betas=self.betas,
            eps=self.eps,
            weight_decay=weight_decay,
            power=self.power,
            rate_power=self.rate_power,
        )
