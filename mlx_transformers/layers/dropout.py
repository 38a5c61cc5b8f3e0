"""The dropouts of recurrent networks; Merity et al. 2017 (AWD-LSTM), sections 4.1 to 4.3.

Dropout      activations: a mask per element, or one for all positions of a row (locked)
WordDropout  whole tokens of the vocabulary, everywhere in the batch
WeightDrop   connections of a weight matrix, the same at every step of a pass
"""

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context


class Dropout(nn.Module):
    """Dropout of `x [B, T, D]`; `locked` draws one mask `[B, 1, D]` for all positions.

    The same mask at every step lets a recurrence keep what it remembers (variational dropout:
    Gal & Ghahramani 2016, equation 7).
    """

    def __init__(self, rate: float, locked: bool) -> None:
        super().__init__()
        self.dropout, self.locked = rate, locked

    def masks(self, shape: tuple[int, ...], dtype: mx.Dtype, ctx: Context) -> list[mx.array] | None:
        """What to multiply each of T steps `[B, D]` of a loop by, for a shape `[B, T, D]`."""
        if ctx.key is None or not self.dropout:
            return None
        batch, length, dim = shape
        kept = ctx.dropout(mx.ones((batch, 1 if self.locked else length, dim), dtype), self.dropout)
        return [kept[:, 0 if self.locked else t] for t in range(length)]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        if not self.locked or ctx.key is None or not self.dropout:
            return ctx.dropout(x, self.dropout)
        return x * ctx.dropout(mx.ones((x.shape[0], 1, x.shape[2]), x.dtype), self.dropout)


class WordDropout(nn.Module):
    """Some tokens of the vocabulary are vectors of zeros for a whole pass, at all their places.

    Gal & Ghahramani 2016, section 4.2: dropout of the rows of the embedding table.
    """

    def __init__(self, rate: float, vocab_size: int) -> None:
        super().__init__()
        self.dropout, self.vocab_size = rate, vocab_size

    def __call__(self, x: mx.array, tokens: mx.array, ctx: Context) -> mx.array:
        if ctx.key is None or not self.dropout:
            return x
        kept = ctx.dropout(mx.ones((self.vocab_size,), x.dtype), self.dropout)
        return x * kept[tokens][..., None]


class WeightDrop(nn.Module):
    """DropConnect (Wan et al. 2013): a weight matrix without some of its connections."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropout = rate

    def __call__(self, weight: mx.array, ctx: Context) -> mx.array:
        return ctx.dropout(weight, self.dropout)
