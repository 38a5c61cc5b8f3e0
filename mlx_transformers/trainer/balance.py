"""Load balancing without a loss: biases of routers that are moved by hand after each step."""

from typing import Any

import mlx.core as mx

from ..models.stack import trained_blocks

LOAD = "expert_load"
"""What a router that is balanced so leaves in the statistics of a training pass, `[E]`."""


def balance(model: Any, metrics: dict[str, mx.array], finite: mx.array) -> dict[str, mx.array]:
    """Move the biases of the routers that left their load in `metrics`; what else is there.

    Nothing moves after a step that was not `finite`.
    """
    loads = {name: value for name, value in metrics.items() if name.startswith(f"{LOAD}/")}
    if loads:
        layers = trained_blocks(model)
        for name, load in loads.items():
            ffn: Any = layers[int(name.rpartition("/")[2])].ffn
            router = ffn.router
            router.balance = mx.where(finite, router.rebalanced(load), router.balance)
    return {name: value for name, value in metrics.items() if name not in loads}
