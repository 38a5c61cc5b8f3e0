"""The last map of a feed-forward network, and what it reads."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx

from ...core.context import Context
from ...core.recompute import recompute
from ..kinds import Apply
from ..shared import own_key


def down(
    layer: Any, apply: Apply, f: Callable[..., mx.array], rate: float, ctx: Context
) -> Callable[..., mx.array]:
    """`layer(dropout(f(...)))`, of which a training pass keeps only what `f` reads.

    The hidden features are the widest arrays of a block and pointwise in what they are made of, so
    the backward pass makes them again. The map itself is not: its gradient doesn't need its result.
    """
    keys = [own_key(layer, ctx.next_key())] if rate and ctx.training else []

    def run(inputs: list[mx.array], keys: list[mx.array]) -> mx.array:
        own = replace(ctx, key=keys[0] if keys else None)
        return apply(layer, own.dropout(f(*inputs), rate))

    again = recompute([layer], run) if ctx.training else run
    return lambda *inputs: again(list(inputs), [mx.stop_gradient(key) for key in keys])
