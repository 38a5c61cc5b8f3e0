"""Adam and AdamW as in torch, with bias correction."""

from typing import Annotated, Any, Literal

import mlx.core as mx
import mlx.optimizers as mlx_optim
from pydantic import Field

from .kinds import MAX_DECAY, Eps, Schedule
from .low_precision_state import LowPrecisionState
from .optimizer import DecayingOptimizer
from .width import WidthTransfer

Beta = Annotated[float, Field(ge=0.0, le=MAX_DECAY)]
"""Decay rate of a running average."""
Betas = Annotated[tuple[Beta, Beta], Field(strict=False)]
"""Two decay rates. Not strict, since TOML has lists and no tuples; the numbers inside are."""


class AmsGrad(mlx_optim.AdamW):
    """AdamW that divides by the largest second moment so far (Reddi et al. 2018, algorithm 2)."""

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Make zero moments and a zero maximum."""
        super().init_single(parameter, state)
        state["largest"] = mx.zeros_like(parameter)

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return the updated parameter."""
        rate = self.learning_rate.astype(gradient.dtype)
        b1, b2 = self.betas
        t = self.step.astype(mx.float32)
        m = state["m"] = b1 * state["m"] + (1 - b1) * gradient
        v = state["v"] = b2 * state["v"] + (1 - b2) * mx.square(gradient)
        largest = state["largest"] = mx.maximum(state["largest"], v)
        root = mx.sqrt(largest / (1 - mx.power(b2, t))) + self.eps
        step: mx.array = rate / (1 - mx.power(b1, t)) * m / root
        return parameter * (1 - rate * self.weight_decay) - step


class PenalizedAdam(mlx_optim.Adam):
    """Adam with an L2 penalty, whose gradient `penalty · w` passes through the moments."""

    penalty = 0.0

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return the updated parameter."""
        if self.penalty:
            gradient = gradient + self.penalty * parameter
        updated: mx.array = super().apply_single(gradient, parameter, state)
        return updated


class PenalizedAmsGrad(PenalizedAdam, AmsGrad):
    """AMSGrad with an L2 penalty."""


class AdamKind(LowPrecisionState, WidthTransfer, DecayingOptimizer):
    """The keys that Adam and AdamW share."""

    betas: Betas = (0.9, 0.999)
    """Decay rates of the first and second moment."""
    eps: Eps = 1e-8
    """Added to the root, so that a gradient of 0 is not divided by 0."""
    amsgrad: bool = False
    """Whether the largest second moment so far takes the place of the present one."""


class Adam(AdamKind):
    """Adam (Kingma & Ba 2015, algorithm 1); at update t = s + 1:

        g = g + weight_decay · w
        m = b1 m + (1 - b1) g           v = b2 v + (1 - b2) g²
        w = w - rate · m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    Weight decay is the classical L2 penalty, as in torch's Adam; the kind `adamw` decouples it.
    """

    kind: Literal["adam"] = "adam"

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        betas = list(self.betas)
        adam: PenalizedAdam
        if self.amsgrad:
            adam = PenalizedAmsGrad(rate, betas, self.eps, weight_decay=0.0)
        else:
            adam = PenalizedAdam(rate, betas=betas, eps=self.eps, bias_correction=True)
        adam.penalty = weight_decay
        return self.pack_state(adam, "v", "largest")


class AdamW(AdamKind):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

        w = w (1 - rate · weight_decay), then Adam's update

    As in torch, the decay is multiplied by the scheduled learning rate; in the paper it is by the
    schedule's fraction alone.
    """

    kind: Literal["adamw"] = "adamw"

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        if self.amsgrad:
            betas = list(self.betas)
            return self.pack_state(AmsGrad(rate, betas, self.eps, weight_decay), "v", "largest")
        adamw = mlx_optim.AdamW(
            rate,
            betas=list(self.betas),
            eps=self.eps,
            weight_decay=weight_decay,
            bias_correction=True,
        )
        return self.pack_state(adamw, "v")
