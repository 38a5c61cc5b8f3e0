"""Dropouts of recurrent networks; Merity et al. 2017 (AWD-LSTM), sections 4.1 to 4.3.

Dropout      activations: a mask per element, or one for all positions of a row (locked)
WordDropout  whole tokens of the vocabulary, everywhere in the batch
"""

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context


class Dropout(nn.Module):
    """Dropout of `x [B, T, D]`; `locked` draws one mask `[B, 1, D]` for all positions.

    One mask for all steps is variational dropout: Gal & Ghahramani 2016, equation 7.
    """

    def __init__(self, rate: float, locked: bool) -> None:
        super().__init__()
        self.dropout, self.locked = rate, locked

    def masks(self, shape: tuple[int, ...], dtype: mx.Dtype, ctx: Context) -> list[mx.array] | None:
        """The scaled mask `[B, D]` of each of T steps, for inputs `[B, T, D]`; None: no dropout."""
        if ctx.key is None or not self.dropout:
            return None
        batch, length, dim = shape
        ones = mx.ones((batch, 1 if self.locked else length, dim), dtype)
        mask = ctx.dropout(ones, self.dropout)
        return [mask[:, 0 if self.locked else t] for t in range(length)]

    def __call__(self, x: mx.array, ctx: Context) -> mx.array:
        if not self.locked or ctx.key is None or not self.dropout:
            return ctx.dropout(x, self.dropout)
        return x * ctx.dropout(mx.ones((x.shape[0], 1, x.shape[2]), x.dtype), self.dropout)


class WordDropout(nn.Module):
    """Embedding dropout: zeroes whole rows of the embedding table for a forward pass.

    Gal & Ghahramani 2016, section 4.2.
    """

    def __init__(self, rate: float, vocab_size: int) -> None:
        super().__init__()
        self.dropout, self.vocab_size = rate, vocab_size

    def __call__(self, x: mx.array, tokens: mx.array, ctx: Context) -> mx.array:
        if ctx.key is None or not self.dropout:
            return x
        mask = ctx.dropout(mx.ones((self.vocab_size,), x.dtype), self.dropout)
        return x * mask[tokens][..., None]
