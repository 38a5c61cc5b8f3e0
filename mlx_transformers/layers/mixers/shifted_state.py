"""Base of RWKV's mixers: their state is the last input and a matrix per head."""

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context
from ...core.shapes import BTD
from ..kinds import State
from ..taps import Taps
from .head_states import zero_state


class ShiftedStateMixer(nn.Module):
    """`(x [B, T, D], ctx) -> [B, T, D]` of inputs and the inputs before them (token shift)."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.dim, self.n_heads, self.shift = dim, n_heads, Taps(2)

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._mix(self.shift.read(x, ctx), None, ctx)[0]

    def init_state(self, batch: int, length: int, dtype: mx.Dtype) -> State:
        """Zeros; the matrices stay in float32."""
        past = self.shift.init_state(batch, self.dim, dtype)
        width = self.dim // self.n_heads
        return past | zero_state(batch, self.n_heads, width, width)

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        taps, after = self.shift.step(x, state, ctx)
        y, s = self._mix(taps, state["s"], ctx)
        return y, after | {"s": s}

    def _mix(
        self, taps: list[mx.array], state: mx.array | None, ctx: Context
    ) -> tuple[mx.array, mx.array]:
        """The output of the inputs before and at each token, and the matrices after the last."""
        raise NotImplementedError
