"""Skipping an update whose gradients are not finite, without a branch."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as mlx_optim

from ..core.tree import Tree, assign, select, snapshot


def update_if(
    finite: mx.array, optimizer: mlx_optim.Optimizer, model: nn.Module, gradients: Tree
) -> None:
    """Update the model where `finite`, a bool scalar, else change nothing.

    A skipped update leaves parameters, moments and `optimizer.step` as they were, so neither the
    schedule nor bias correction counts it. May be called inside `mx.compile`.
    """
    state = optimizer.state
    before, parameters = snapshot(state), model.trainable_parameters()
    updated = optimizer.apply_gradients(gradients, parameters)
    model.update(select(finite, updated, parameters))
    assign(state, select(finite, optimizer.state, before))
