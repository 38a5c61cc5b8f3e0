"""The down projection of a feed-forward network, with its input recomputed in the backward."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx

from ...core.context import Context
from ...core.recompute import recompute
from ..kinds import Apply
from ..sharding import dropout_key


def down(
    layer: Any, apply: Apply, f: Callable[..., mx.array], rate: float, ctx: Context
) -> Callable[..., mx.array]:
    """Return `layer(dropout(f(...)))`, of which a training pass saves only the inputs of `f`.

    The hidden features are the widest arrays of a block and pointwise in their inputs, so the
    backward recomputes them. The projection itself is not recomputed: its gradient does not need
    its output.

    Args:
        layer: the down projection, or a stack of them.
        apply: how `layer` is applied (`ffns/expert.py`).
        f: pointwise, from the outputs of the first linear layers to the hidden features.
        rate: dropout on the hidden features.
    """
    keys = [dropout_key(layer, ctx.next_key())] if rate and ctx.training else []

    def run(inputs: list[mx.array], keys: list[mx.array]) -> mx.array:
        dropout_ctx = replace(ctx, key=keys[0] if keys else None)
        return apply(layer, dropout_ctx.dropout(f(*inputs), rate))

    again = recompute([layer], run) if ctx.training else run
    return lambda *inputs: again(list(inputs), [mx.stop_gradient(key) for key in keys])
