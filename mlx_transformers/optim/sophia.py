"""Sophia: momentum divided by a diagonal estimate of the Hessian, and clipped element by element.

    every k updates:  h = b2 h + (1 - b2) h'         h' is an estimate of the diagonal
    m = b1 m + (1 - b1) g
    w = w (1 - rate · weight_decay) - rate · clip(m / d, -1, 1)

Liu et al. 2024, algorithm 3. Where the curvature is small or negative, the clipped ratio is a sign.
"""

from abc import abstractmethod
from typing import Any, Literal

import mlx.core as mx
import mlx.optimizers as mlx_optim
from pydantic import Field

from .adam import Betas
from .kinds import Eps, Schedule
from .optimizer import DecayingOptimizer
from .periodic import CurvatureKind, DiagonalHessian


class ClippedNewton(DiagonalHessian):
    """Sophia's update, with `d = scale · h + eps` (added) or `d = max(scale · h, eps)`."""

    def __init__(
        self,
        rate: Schedule,
        betas: tuple[float, float],
        scale: float,
        eps: float,
        weight_decay: float,
        added: bool,
    ) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", rate)
        self.betas, self.scale, self.eps = betas, scale, eps
        self.decay, self.added = weight_decay, added

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Make the momentum and the curvature of one parameter, zeros."""
        state["m"], state["h"] = mx.zeros_like(parameter), mx.zeros_like(parameter)

    def update_hessian_single(self, estimate: mx.array, state: dict[str, mx.array]) -> None:
        """Move the curvature towards an estimate."""
        state["h"] = self.betas[1] * state["h"] + (1 - self.betas[1]) * estimate

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return the updated parameter."""
        rate = self.learning_rate.astype(gradient.dtype)
        m = state["m"] = self.betas[0] * state["m"] + (1 - self.betas[0]) * gradient
        curved = self.scale * state["h"]
        divisor = curved + self.eps if self.added else mx.maximum(curved, self.eps)
        update = mx.clip(m / divisor, -1.0, 1.0)
        return parameter * (1 - rate * self.decay) - rate * update


class Sophia(DecayingOptimizer):
    """Base of both kinds: the interval between estimates of the curvature."""

    every: int = Field(default=10, ge=1)
    """Updates between two estimates of the curvature; each costs one more pass (`sophia_g`) or two
    (`sophia_h`) over the first microbatch."""

    @property
    @abstractmethod
    def curvature(self) -> CurvatureKind:
        """The estimate of the curvature that the training step supplies."""


class SophiaG(Sophia):
    """Sophia-G (Liu et al. 2024, algorithm 2): the Gauss-Newton-Bartlett estimate.

        h' = B · g²        d = rho · h + eps

    g is the mean gradient over B tokens whose labels are drawn from the model's own predictions.
    The published code keeps `g²` and divides by `rho · B · h`, which is the same.
    """

    kind: Literal["sophia_g"] = "sophia_g"
    betas: Betas = (0.965, 0.99)
    """Decay rates of the momentum and of the curvature."""
    rho: float = Field(default=0.04, gt=0.0)
    """Scale of the curvature; a larger one clips fewer elements."""
    eps: Eps = 1e-15
    """Added to the scaled curvature."""

    @property
    def curvature(self) -> CurvatureKind:
        return CurvatureKind("labels", self.every)

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        return ClippedNewton(rate, self.betas, self.rho, self.eps, weight_decay, added=True)


class SophiaH(Sophia):
    """Sophia-H (Liu et al. 2024, algorithm 1): Hutchinson's estimate.

        h' = u · (H u)        d = max(gamma · h, eps)        u standard normal

    The product with the Hessian is a central difference of two gradients, since fused kernels
    have no second derivative.
    """

    kind: Literal["sophia_h"] = "sophia_h"
    betas: Betas = (0.96, 0.99)
    """Decay rates of the momentum and of the curvature."""
    gamma: float = Field(default=0.01, gt=0.0)
    """Scale of the curvature; a larger one clips fewer elements."""
    eps: Eps = 1e-12
    """Smallest scaled curvature."""

    @property
    def curvature(self) -> CurvatureKind:
        return CurvatureKind("hessian", self.every)

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        return ClippedNewton(rate, self.betas, self.gamma, self.eps, weight_decay, added=False)
