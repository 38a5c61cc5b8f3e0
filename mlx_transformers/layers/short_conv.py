"""Short causal depthwise convolution, in front of the recurrence of many mixers."""

from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context
from ..core.shapes import BTD
from ..ops.short_conv import short_convolution
from .kinds import State
from .parameter import Role
from .token_masks import without_padding


class ShortConv(nn.Module):
    """`y_t = Σ_j w_j x_{t - W + 1 + j} + b` for each feature: `(x [B, T, D], ctx) -> [B, T, D]`.

    Always causal. Padding and other documents read as zeros. The weights start uniform in
    ±1/√W, as those of PyTorch's `Conv1d`.
    """

    roles: ClassVar[dict[str, Role]] = {"weight": "own", "bias": "bias"}

    def __init__(self, dim: int, width: int, bias: bool) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = mx.random.uniform(-bound, bound, (dim, width))
        if bias:
            self.bias = mx.zeros((dim,))

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        y = short_convolution(without_padding(x, ctx), self.weight, ctx.layout.segments)
        return self._biased(y)

    def init_state(self, batch: int, dtype: mx.Dtype) -> State:
        """Zeros in place of the last W - 1 inputs."""
        dim, width = self.weight.shape
        return {"past": mx.zeros((batch, width - 1, dim), dtype)}

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        x, past = without_padding(x, ctx), state["past"]
        y = self._biased(short_convolution(x, self.weight, past=past))
        inputs = mx.concatenate([past.astype(x.dtype), x], axis=1)
        return y, {"past": inputs[:, x.shape[1] :].astype(past.dtype)}

    def _biased(self, y: mx.array) -> mx.array:
        return y + self.bias if "bias" in self else y
