"""Adam and AdamW as in torch, with bias correction."""

from typing import Annotated, Literal

import mlx.optimizers as mlx_optim
from pydantic import Field

from .kinds import BELOW_ONE, LEAST_EPS, Schedule
from .moments import Moments
from .optimizer import DecayingOptimizer, Optimizer

Beta = Annotated[float, Field(ge=0.0, le=BELOW_ONE)]
"""Decay rate of a running average."""
Betas = Annotated[tuple[Beta, Beta], Field(strict=False)]
"""Two decay rates. Not strict, since TOML has lists and no tuples; the numbers inside are."""


class Adam(Moments, Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1); at update t = s + 1:

        m = b1 m + (1 - b1) g           v = b2 v + (1 - b2) g²
        w = w - rate · m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    Without weight decay; the kind `adamw` has it.
    """

    kind: Literal["adam"] = "adam"
    betas: Betas = (0.9, 0.999)
    """Decay rates of the first and second moment."""
    eps: float = Field(default=1e-8, ge=LEAST_EPS)
    """Added to the root, so that a gradient of 0 is not divided by 0."""

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        adam = mlx_optim.Adam(rate, betas=list(self.betas), eps=self.eps, bias_correction=True)
        return self.stored(adam, "v")


class AdamW(Moments, DecayingOptimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

        w = w (1 - rate · weight_decay), then Adam's update

    As in torch, the decay is multiplied by the scheduled learning rate; in the paper it is by the
    schedule's fraction alone.
    """

    kind: Literal["adamw"] = "adamw"
    betas: Betas = (0.9, 0.999)
    """Decay rates of the first and second moment."""
    eps: float = Field(default=1e-8, ge=LEAST_EPS)
    """Added to the root, so that a gradient of 0 is not divided by 0."""

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        adamw = mlx_optim.AdamW(
            rate,
            betas=list(self.betas),
            eps=self.eps,
            weight_decay=weight_decay,
            bias_correction=True,
        )
        return self.stored(adamw, "v")
