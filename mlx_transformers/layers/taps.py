"""The taps of a convolution over time: what every output reads, with holes between them."""

from dataclasses import dataclass

import mlx.core as mx

from ..core.context import Context

State = dict[str, mx.array]


@dataclass(frozen=True)
class Taps:
    """`kernel` inputs, `dilation` positions apart, that an output is made of.

    In a causal pass the last of them is the output's own; in any other it stands among them.
    Padding and other documents count as zeros, and so does what is outside the row.
    """

    kernel: int
    dilation: int = 1

    @property
    def span(self) -> int:
        """Positions from the first tap to the last."""
        return (self.kernel - 1) * self.dilation

    def read(self, x: mx.array, ctx: Context) -> list[mx.array]:
        """The taps of every position of x `[B, T, D]`, the oldest first."""
        if ctx.layout.valid is not None:
            x = _only(ctx.layout.valid, x)
        after = 0 if ctx.layout.causal else (self.kernel - 1) // 2 * self.dilation
        around = (self.span - after, after)
        taps = self._cut(mx.pad(x, [(0, 0), around, (0, 0)]))
        if ctx.layout.segments is None:
            return taps
        documents = self._cut(mx.pad(ctx.layout.segments, [(0, 0), around], constant_values=-1))
        return [
            _only(of == ctx.layout.segments, tap) for of, tap in zip(documents, taps, strict=True)
        ]

    def init_state(self, batch: int, dim: int, dtype: mx.Dtype) -> State:
        """The inputs that the next output still reads: zeros before a row begins."""
        return {"past": mx.zeros((batch, self.span, dim), dtype)}

    def step(self, x: mx.array, state: State, ctx: Context) -> tuple[list[mx.array], State]:
        """The taps of the next T tokens `x [B, T, D]`, and what the ones after them read."""
        if ctx.cursor.pad is not None:
            x = _only(mx.arange(x.shape[1]) + ctx.cursor.offset >= ctx.cursor.pad[:, None], x)
        past = state["past"]
        seen = mx.concatenate([past.astype(x.dtype), x], axis=1)
        return self._cut(seen), {"past": seen[:, x.shape[1] :].astype(past.dtype)}

    def _cut(self, padded: mx.array) -> list[mx.array]:
        length = padded.shape[1] - self.span
        starts = range(0, self.span + 1, self.dilation)
        return [padded[:, at : at + length] for at in starts]


def _only(there: mx.array, x: mx.array) -> mx.array:
    """x `[B, T, D]` where `there [B, T]`, zeros elsewhere."""
    return mx.where(there[..., None], x, mx.zeros((), x.dtype))
