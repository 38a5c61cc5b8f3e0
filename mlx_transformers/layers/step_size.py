"""Step sizes of selective state spaces: how their biases start."""

import math

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..recipe.config import Config


class StepSizes(Config):
    """The range of step sizes Δ = softplus(... + bias) at the start; a mixin of Mamba's kinds."""

    dt_min: float = Field(1e-3, gt=0)
    """Smallest step size at the start; biases are drawn log-uniformly between the two."""
    dt_max: float = Field(1e-1, gt=0)
    """Largest step size at the start."""
    dt_floor: float = Field(1e-4, gt=0)
    """Step sizes that are drawn smaller than this are raised to it."""

    @model_validator(mode="after")
    def _range_is_ordered(self) -> "StepSizes":
        if self.dt_min > self.dt_max:
            raise ValueError(f"dt_min = {self.dt_min} is more than dt_max = {self.dt_max}.")
        return self

    def draw_bias(self, n: int) -> mx.array:
        """n biases whose softplus is log-uniform between `dt_min` and `dt_max`."""
        low, high = math.log(self.dt_min), math.log(self.dt_max)
        dt = mx.maximum(mx.exp(mx.random.uniform(low, high, (n,))), self.dt_floor)
        return dt + mx.log(-mx.expm1(-dt))


def step_sizes(x: mx.array, bias: mx.array) -> mx.array:
    """`softplus(x + bias)` in float32."""
    return nn.softplus(x.astype(mx.float32) + bias.astype(mx.float32))
