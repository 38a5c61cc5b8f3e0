"""Adafactor: a factored second moment, whose memory is sublinear in the parameters."""

from typing import Annotated, Literal

import mlx.core as mx
import mlx.optimizers as mlx_optim
from pydantic import Field, model_validator

from .adam import Beta
from .kinds import MAX_LEARNING_RATE, Eps, Schedule
from .optimizer import DecayingOptimizer
from .schedules import Constant


class Adafactor(DecayingOptimizer):
    """Adafactor (Shazeer & Stern 2018, algorithms 4 and 5); at update t = s + 1:

        b2 = 1 - t^-decay_rate
        R = b2 R + (1 - b2) mean_columns(g² + eps1)     C likewise over the rows
        u = g / sqrt(R C / mean(R))     u = u / max(1, RMS(u) / clip_threshold)
        w = w - rate · scale · (u + weight_decay · w)   scale = max(eps2, RMS(w)), or 1

    Vectors have a full second moment. Without `learning_rate` it is the paper's relative step,
    `min(0.01, 1 / sqrt(t))`, with `warmup_init` `min(1e-6 t, 1 / sqrt(t))`.
    """

    kind: Literal["adafactor"] = "adafactor"
    # The only optimizer with a step of its own where there is no rate.
    learning_rate: float | None = Field(default=None, gt=0.0, le=MAX_LEARNING_RATE)  # type: ignore[assignment]
    """Peak learning rate, which `schedule` shapes; none: the paper's relative step."""
    eps: Annotated[tuple[Eps, Eps], Field(strict=False)] = (1e-30, 1e-3)
    """Added to the squared gradient; smallest scale of a parameter."""
    clip_threshold: float = Field(default=1.0, gt=0.0)
    """Largest root mean square of an update, before the learning rate."""
    decay_rate: float = Field(default=0.8, gt=0.0)
    """Exponent of the second moment's decay, `1 - t^-decay_rate`."""
    beta1: Beta | None = None
    """Decay rate of the first moment; none has no first moment, and saves its memory."""
    scale_parameter: bool = True
    """Whether updates are scaled by the root mean square of their parameter."""
    warmup_init: bool = False
    """Whether the paper's relative step begins with a warm-up."""

    @model_validator(mode="after")
    def _a_schedule_shapes_something(self) -> "Adafactor":
        if self.learning_rate is None and self.schedule != Constant():
            raise ValueError(
                "optim.schedule shapes optim.learning_rate: set it, or leave the schedule out."
            )
        if self.learning_rate is not None and self.warmup_init:
            raise ValueError(
                "optim.warmup_init warms the relative step up: leave optim.learning_rate out, or "
                "give optim.schedule a warmup."
            )
        return self

    def rate(self, total_steps: int) -> Schedule:
        if self.learning_rate is None:
            return warmed_step if self.warmup_init else relative_step
        return super().rate(total_steps)

    @property
    def pointwise(self) -> bool:
        """False: an update depends on the whole matrix."""
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
    """Return Adafactor's relative step, `min(0.01, 1 / sqrt(s + 1))` (Shazeer & Stern 2018).

    MLX has the same formula inside; as a schedule it is also logged.
    """
    return mx.minimum(1e-2, mx.rsqrt(step.astype(mx.float32) + 1.0))


def warmed_step(step: mx.array) -> mx.array:
    """Return the relative step with a warm-up, `min(1e-6 (s + 1), 1 / sqrt(s + 1))`."""
    t = step.astype(mx.float32) + 1.0
    return mx.minimum(1e-6 * t, mx.rsqrt(t))
