"""Small models that keep the protocol of objectives, and fit in a line of NumPy each."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_transformers.core.context import Context
from mlx_transformers.layers.heads import Unembedding

WIDTH = 6


class Reader(nn.Module):
    """`hidden` is each token's vector plus the mean of its types' and of what exists around it."""

    def __init__(self, vocab_size: int, n_classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        draw = np.random.default_rng(seed).standard_normal
        self.table = mx.array(draw((vocab_size, WIDTH)).astype(np.float32))
        self.types = mx.array(draw((2, WIDTH)).astype(np.float32))
        self.out = mx.array(draw((vocab_size, WIDTH)).astype(np.float32))
        self.classes = mx.array(draw((n_classes, WIDTH)).astype(np.float32))

    def hidden(self, tokens: mx.array, ctx: Context) -> mx.array:
        x = self.table[tokens]
        if ctx.types is not None:
            x = x + self.types[ctx.types]
        if ctx.memory is not None:
            return x + mean(ctx.memory, ctx.memory_valid)[:, None]
        return x if ctx.causal else x + mean(x, ctx.valid)[:, None]

    def encode(self, source: mx.array, ctx: Context) -> mx.array:
        assert not ctx.causal
        return self.hidden(source, ctx)

    def unembedding(self) -> Unembedding:
        return Unembedding(self.out, None, None)


def mean(x: mx.array, valid: mx.array | None) -> mx.array:
    """Over the tokens that exist."""
    if valid is None:
        return x.mean(axis=1)
    share = valid.astype(x.dtype)[..., None]
    return (x * share).sum(axis=1) / share.sum(axis=1)


def numpy_of(model: Any) -> dict[str, np.ndarray]:
    """Its weights in float64."""
    return {n: np.asarray(v, np.float64) for n, v in model.parameters().items()}
