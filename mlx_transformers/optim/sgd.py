"""Stochastic gradient descent, with momentum."""

from typing import Any, Literal

import mlx.core as mx
import mlx.optimizers as mlx_optim
from pydantic import Field, model_validator

from .kinds import MAX_DECAY, Schedule
from .optimizer import DecayingOptimizer


class DampedSgd(mlx_optim.SGD):
    """SGD whose first update is not damped, as in torch; MLX damps it, too."""

    momentum: float
    dampening: float
    weight_decay: float

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return the updated parameter."""
        gradient = gradient + self.weight_decay * parameter
        share = mx.where(self.step > 1, 1 - self.dampening, 1.0).astype(gradient.dtype)
        v = state["v"] = self.momentum * state["v"] + share * gradient
        step: mx.array = self.learning_rate.astype(gradient.dtype) * v
        return parameter - step


class Sgd(DecayingOptimizer):
    """Stochastic gradient descent with momentum, as torch defines it.

        g = g + weight_decay · w        v = momentum · v + (1 - dampening) · g
        w = w - rate · v                (nesterov: w - rate · (g + momentum · v))

    The first update is v = g, without dampening. Weight decay is the classical L2 penalty, which
    passes through the momentum (Polyak 1964; Sutskever et al. 2013, section 2, for Nesterov's
    form).
    """

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0.0, le=MAX_DECAY)
    """Decay rate of the momentum; 0 is plain gradient descent."""
    dampening: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of each gradient, but the first, that the momentum leaves out."""
    nesterov: bool = False
    """Nesterov momentum."""

    @model_validator(mode="after")
    def _options_have_momentum(self) -> "Sgd":
        for name in ("nesterov", "dampening"):
            if getattr(self, name) and self.momentum == 0.0:
                raise ValueError(f"optim.{name} needs momentum: set optim.momentum above 0.")
        if self.nesterov and self.dampening:
            raise ValueError("optim.nesterov has no dampening: leave one of the two out.")
        return self

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        if self.dampening:
            return DampedSgd(rate, self.momentum, weight_decay, self.dampening)
        return mlx_optim.SGD(
            rate,
            momentum=self.momentum,
            weight_decay=weight_decay,
            nesterov=self.nesterov,
        )
