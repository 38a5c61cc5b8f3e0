"""Taps of a (dilated) convolution over time: the inputs that each output reads."""

from dataclasses import dataclass

import mlx.core as mx

from ..core.context import Context
from .token_masks import without_padding

State = dict[str, mx.array]


@dataclass(frozen=True)
class Taps:
    """The `kernel` inputs, `dilation` positions apart, that each output reads.

    In a causal pass the last tap is the output's own position, otherwise the taps are centred on
    it. Padding, other documents and positions outside the row read as zeros.
    """

    kernel: int
    dilation: int = 1

    @property
    def span(self) -> int:
        """Positions from the first tap to the last."""
        return (self.kernel - 1) * self.dilation

    def read(self, x: mx.array, ctx: Context) -> list[mx.array]:
        """The taps of every position of x `[B, T, D]`, oldest first, each `[B, T, D]`."""
        x = without_padding(x, ctx)
        after = 0 if ctx.layout.causal else (self.kernel - 1) // 2 * self.dilation
        around = (self.span - after, after)
        taps = self._cut(mx.pad(x, [(0, 0), around, (0, 0)]))
        if ctx.layout.segments is None:
            return taps
        documents = self._cut(mx.pad(ctx.layout.segments, [(0, 0), around], constant_values=-1))
        return [
            _masked(tap, of == ctx.layout.segments) for of, tap in zip(documents, taps, strict=True)
        ]

    def init_state(self, batch: int, dim: int, dtype: mx.Dtype) -> State:
        """The past inputs that the next output reads, zeros at the start of a row."""
        return {"past": mx.zeros((batch, self.span, dim), dtype)}

    def step(self, x: mx.array, state: State, ctx: Context) -> tuple[list[mx.array], State]:
        """The taps of the next T tokens `x [B, T, D]`, and the new state."""
        x, past = without_padding(x, ctx), state["past"]
        inputs = mx.concatenate([past.astype(x.dtype), x], axis=1)
        return self._cut(inputs), {"past": inputs[:, x.shape[1] :].astype(past.dtype)}

    def _cut(self, padded: mx.array) -> list[mx.array]:
        length = padded.shape[1] - self.span
        starts = range(0, self.span + 1, self.dilation)
        return [padded[:, at : at + length] for at in starts]


def _masked(x: mx.array, where: mx.array) -> mx.array:
    """x `[B, T, D]` where `where [B, T]`, zeros elsewhere."""
    return mx.where(where[..., None], x, mx.zeros((), x.dtype))
