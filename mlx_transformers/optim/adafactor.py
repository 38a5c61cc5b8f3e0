"""Adafactor: Adam's second moment by rows and columns, sublinear in memory."""

from typing import Annotated, Literal

import mlx.core as mx
import mlx.optimizers as mlx_optim
from pydantic import Field, model_validator

from .adam import Beta
from .optimizer import DecayingOptimizer
from .schedules import Constant, Schedule

Positive = Annotated[float, Field(gt=0.0)]


class Adafactor(DecayingOptimizer):
    """Adafactor (Shazeer & Stern 2018, algorithms 4 and 5); at update t = s + 1:

        b2 = 1 - t^-decay_rate
        R = b2 R + (1 - b2) mean_columns(g² + eps1)     C likewise over the rows
        u = g / sqrt(R C / mean(R))     u = u / max(1, RMS(u) / clip_threshold)
        w = w - rate · scale · (u + weight_decay · w)   scale = max(eps2, RMS(w)), or 1

    Vectors keep the whole second moment. Without `learning_rate` the rate is the paper's own,
    `min(0.01, 1 / sqrt(t))`.
    """

    kind: Literal["adafactor"] = "adafactor"
    learning_rate: float | None = Field(default=None, gt=0.0)  # type: ignore[assignment]
    """The peak rate, which `schedule` shapes; none: the paper's relative step."""
    eps: Annotated[tuple[Positive, Positive], Field(strict=False)] = (1e-30, 1e-3)
    """Added to the squared gradient; least scale of a parameter."""
    clip_threshold: float = Field(default=1.0, gt=0.0)
    """Largest root mean square of an update before the rate."""
    decay_rate: float = Field(default=0.8, gt=0.0)
    """How fast the second moment's memory grows."""
    beta1: Beta | None = None
    """How much of the past the mean of the update keeps; none keeps no mean, and no memory."""
    scale_parameter: bool = True
    """Whether a parameter moves in proportion to its own root mean square."""

    @model_validator(mode="after")
    def _a_schedule_shapes_something(self) -> "Adafactor":
        if self.learning_rate is None and self.schedule != Constant():
            raise ValueError("A schedule shapes learning_rate: set it, or leave the schedule out.")
        return self

    def rate(self, total_steps: int) -> Schedule:
        if self.learning_rate is None:
            return relative_step
        return super().rate(total_steps)

    @property
    def pointwise(self) -> bool:
        """No: it looks at whole matrices."""
        return False

    def group(self, rate: Schedule, weight_decay: float) -> mlx_optim.Optimizer:
        return mlx_optim.Adafactor(
            rate,
            eps=self.eps,
            clip_threshold=self.clip_threshold,
            decay_rate=-self.decay_rate,
            beta_1=self.beta1,
            weight_decay=weight_decay,
            scale_parameter=self.scale_parameter,
            relative_step=False,
        )


def relative_step(step: mx.array) -> mx.array:
    """`min(0.01, 1 / sqrt(s + 1))`, Adafactor's own rate (Shazeer & Stern 2018, algorithm 5).

    MLX has the same formula inside; as a schedule it also reaches the log.
    """
    return mx.minimum(1e-2, mx.rsqrt(step.astype(mx.float32) + 1.0))
