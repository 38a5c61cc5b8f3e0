"""An ffn over a few positions at a time (Reformer)."""

from dataclasses import replace
from typing import Any

import mlx.core as mx

from ..core.context import Context
from ..core.recompute import recompute
from ..core.shapes import BTD
from ..ops.unstack import unstack


def in_chunks(ffn: Any, x: BTD, size: int, ctx: Context) -> BTD:
    """An ffn over `size` positions at a time, each chunk recomputed in the backward pass.

    Kitaev et al. 2020 (Reformer), section 3.
    """
    B, T, D = x.shape
    if size >= T:
        out: mx.array = ffn(x, ctx)
        return out

    def run(x: mx.array, *keys: mx.array) -> mx.array:
        key = mx.stop_gradient(keys[0]) if keys else None
        y: mx.array = ffn(x, replace(ctx, key=key))
        return y

    again = recompute([ffn], run)
    parts = unstack(mx.pad(x, [(0, 0), (0, -T % size), (0, 0)]).reshape(B, -1, size, D))
    keys = [ctx.split_key() for _ in parts]
    done = [again(y, *([] if key is None else [key])) for y, key in zip(parts, keys, strict=True)]
    return mx.concatenate(done, axis=1)[:, :T]
