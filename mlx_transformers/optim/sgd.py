"""Stochastic gradient descent, with momentum."""

from typing import Literal

import mlx.optimizers as mlx_optim
from pydantic import Field, model_validator

from .kinds import MAX_DECAY, Schedule
from .optimizer import DecayingOptimizer


class Sgd(DecayingOptimizer):
    """Stochastic gradient descent with momentum, as torch defines it.

        g = g + weight_decay · w        v = momentum · v + g
        w = w - rate · v                (nesterov: w - rate · (g + momentum · v))

    Weight decay is the classical L2 penalty, which passes through the momentum (Polyak 1964;
    Sutskever et al. 2013, section 2, for Nesterov's form).
    """

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0.0, le=MAX_DECAY)
    """Decay rate of the momentum; 0 is plain gradient descent."""
    nesterov: bool = False
    """Nesterov momentum."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "Sgd":
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("optim.nesterov needs momentum: set optim.momentum above 0.")
        return self

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        return mlx_optim.SGD(
            rate,
            momentum=self.momentum,
            weight_decay=weight_decay,
            nesterov=self.nesterov,
        )
