"""Linear attention by features of queries and keys, divided by the sum of its weights."""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ...core.context import Context
from ...core.shapes import BTD
from ...ops.linear_attention import normalised_linear_attention
from ..kinds import State
from .head_states import row_facts

EPS = 1e-6
"""Added to the sum of a query's weights; published code takes at least as much."""


class KernelFeatureMixer(nn.Module):
    """`o_t = Σ_s φ(q_t)·φ(k_s) v_s / (Σ_s φ(q_t)·φ(k_s) + eps)`, heads side by side.

    The decode state is a matrix `[N, V + 1]` per head, whose last column sums features of keys.
    """

    chunk: int
    sum_eps: float = EPS

    def __call__(self, x: BTD, ctx: Context) -> BTD:
        return self._mix(x, None, ctx, causal=ctx.layout.causal)[0]

    def step(self, x: BTD, state: State, ctx: Context) -> tuple[BTD, State]:
        """Continue by the T tokens of `x`."""
        y, sums = self._mix(x, state["s"], ctx, causal=True)
        return y, {"s": sums}

    def _mix(
        self, x: mx.array, state: mx.array | None, ctx: Context, *, causal: bool
    ) -> tuple[mx.array, mx.array]:
        q, k, v = self._project(x, ctx)
        mix = partial(
            normalised_linear_attention,
            q,
            k,
            eps=self.sum_eps,
            causal=causal,
            state=state,
            chunk=self.chunk,
            **row_facts(ctx, x.shape[1]),
        )
        ctx.collected.observe_weights("implied", lambda values: mix(values)[0], v)
        y, sums = mix(v)
        return self._merge(y.astype(x.dtype)), sums

    def _project(self, x: mx.array, ctx: Context) -> tuple[mx.array, mx.array, mx.array]:
        """Features of queries and keys `[B, H, T, N]`, and values `[B, H, T, V]`."""
        raise NotImplementedError

    def _merge(self, y: mx.array) -> mx.array:
        """The output `[B, T, D]` of heads `[B, H, T, V]`."""
        raise NotImplementedError
