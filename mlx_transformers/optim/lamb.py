"""LAMB: Adam whose update of each array is as long as the learning rate times the array."""

from typing import Any, Literal

import mlx.core as mx
import mlx.optimizers as mlx_optim
from pydantic import Field

from .adam import Betas
from .kinds import Eps, Schedule
from .low_precision_state import LowPrecisionState
from .optimizer import DecayingOptimizer


class LayerwiseAdam(mlx_optim.Adam):
    """Adam's direction, scaled to each array's own norm."""

    def __init__(
        self,
        rate: Schedule,
        betas: tuple[float, float],
        eps: float,
        bias_correction: bool,
        weight_decay: float,
        largest_norm: float | None,
        trust: bool,
    ) -> None:
        super().__init__(rate, betas=list(betas), eps=eps, bias_correction=bias_correction)
        self.decay, self.largest_norm, self.trust = weight_decay, largest_norm, trust

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """Return the updated parameter."""
        rate = self.learning_rate.astype(gradient.dtype)
        b1, b2 = self.betas
        m = state["m"] = b1 * state["m"] + (1 - b1) * gradient
        v = state["v"] = b2 * state["v"] + (1 - b2) * mx.square(gradient)
        if self.bias_correction:
            t = self.step.astype(mx.float32)
            m, v = m / (1 - mx.power(b1, t)), v / (1 - mx.power(b2, t))
        update: mx.array = m / (mx.sqrt(v) + self.eps) + self.decay * parameter
        if not self.trust:
            return parameter - rate * update
        norm, length = mx.linalg.norm(parameter), mx.linalg.norm(update)
        if self.largest_norm is not None:
            norm = mx.minimum(norm, self.largest_norm)
        moves = (norm > 0) & (length > 0)
        ratio = mx.where(moves, norm / mx.where(moves, length, 1.0), 1.0)
        return parameter - rate * ratio * update


class Lamb(LowPrecisionState, DecayingOptimizer):
    """LAMB, layer-wise Adam for large batches (You et al. 2020, algorithm 2).

        u = m / (sqrt(v) + eps) + weight_decay · w        m and v of Adam, corrected for bias
        w = w - rate · min(|w|, largest_norm) / |u| · u

    The ratio is one number per array, and 1 where either norm is 0. The authors' third version
    has no bias correction.
    """

    kind: Literal["lamb"] = "lamb"
    betas: Betas = (0.9, 0.999)
    """Decay rates of the first and second moment."""
    eps: Eps = 1e-6
    """Added to the root, so that a gradient of 0 is not divided by 0."""
    bias_correction: bool = True
    """Whether the moments are corrected for their start at 0."""
    largest_norm: float | None = Field(default=10.0, gt=0.0)
    """Largest norm of an array that its update is scaled to; none has no limit."""
    trust: bool = True
    """Whether updates are scaled to the norms of their arrays; false is Adam with the decay added
    to its direction."""

    @property
    def pointwise(self) -> bool:
        """False: an update depends on the whole array, unless nothing is scaled."""
        return not self.trust and super().pointwise

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        lamb = LayerwiseAdam(
            rate,
            self.betas,
            self.eps,
            self.bias_correction,
            weight_decay,
            self.largest_norm,
            self.trust,
        )
        return self.pack_state(lamb, "v")
